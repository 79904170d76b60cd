"""Results as percentages, as a text table, and as JSON that any reader takes."""

import json

import numpy as np
import pytest
import torch

from reid_core.evaluation import RankingResults, results_table, save_results


def results(ranks=50):
    return RankingResults(mAP=0.25, mINP=0.125, cmc=np.linspace(0.5, 1, ranks), num_queries=8, num_valid_queries=7)


def test_percentages():
    found = results(11).percentages([1, 11])
    assert found == {"mAP": 25.0, "mINP": 12.5, "rank1": 50.0, "rank11": 100.0}
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("rank", [0, 12, -1])
def test_a_rank_outside_the_cmc_is_refused(rank):
    with pytest.raises(ValueError, match=rf"ranks 1 to 11; rank {rank} "):
        results(11).percentages([1, rank])


def test_table_has_a_row_for_each_name_and_a_column_for_each_number():
    table = results_table(
        {"untrained": {"mAP": 7.04, "per_query": {"AP": []}}, "trained": {"mAP": np.float32(12.5), "rank1": 100}},
        label="model",
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == ["model", "mAP", "rank1"]
    assert rows[2:] == [["untrained", "7.0", "-"], ["trained", "12.5", "100.0"]]


def test_variants_have_rows_of_their_own_behind_the_row_that_they_belong_to():
    table = results_table({"A": {"mAP": 1, "reranked/mAP": 2, "reranked/rank1": 3}, "B": {"mAP": 4, "a+b/mAP": 5}})
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0] == ["dataset", "mAP", "rank1"]
    expected = [["A", "1.0", "-"], ["A, reranked", "2.0", "3.0"], ["B", "4.0", "-"], ["B, a+b", "5.0", "-"]]
    assert rows[2:] == expected


def test_json_holds_plain_numbers(tmp_path):
    path = tmp_path / "folder" / "metrics.json"
    save_results(
        path,
        {
            "Market1501": {
                "mAP": np.float64(71.25),
                "per_query": {"AP": np.array([50.0, np.nan]), "first_match_rank": torch.tensor([2, 0])},
            },
            "seed": np.int64(3),
            "names": ("a", None, True, float("inf")),
        },
    )
    assert json.loads(path.read_text()) == {
        "Market1501": {"mAP": 71.25, "per_query": {"AP": [50.0, None], "first_match_rank": [2, 0]}},
        "seed": 3,
        "names": ["a", None, True, None],
    }


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    save_results(path, {"mAP": 1.0})
    with pytest.raises(TypeError):
        save_results(path, {"mAP": object()})
    assert json.loads(path.read_text()) == {"mAP": 1.0}
    assert list(tmp_path.iterdir()) == [path]
