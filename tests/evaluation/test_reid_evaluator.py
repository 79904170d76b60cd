"""The evaluator takes its settings from the config and its labels from the dataset's records."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reid_core.config import get_cfg
from reid_core.evaluation import ReIDEvaluator, evaluate
from reid_core.registry import EVALUATOR_REGISTRY
from reid_core.structures import ReIDImage
from tests.evaluation import plain
from tests.evaluation.test_ranking import random_set
from tests.paths import ROOT


def build(arrays, *overrides, evaluator="ReIDEvaluator"):
    cfg = get_cfg()
    cfg.merge_from_list(list(overrides))
    query, gallery = (
        [ReIDImage(f"{side}{n}.jpg", int(p), int(c)) for n, (p, c) in enumerate(zip(*columns, strict=True))]
        for side, columns in (("q", arrays[2::2]), ("g", arrays[3::2]))
    )
    dataset = SimpleNamespace(name="Tiny", query=query, gallery=gallery)
    return EVALUATOR_REGISTRY.build(evaluator, cfg, dataset=dataset)


def test_percentages_of_the_configured_ranks():
    arrays = random_set(1)
    unit = [row / np.linalg.norm(row, axis=1, keepdims=True) for row in arrays[:2]]
    expected = plain.score(*unit, *arrays[2:])
    found = build(arrays, "TEST.CMC_RANKS", "[2, 7]").evaluate(*map(torch.from_numpy, arrays[:2]))
    assert list(found) == ["mAP", "mINP", "rank2", "rank7"]
    assert all(type(value) is float for value in found.values())
    assert found["mAP"] == pytest.approx(100 * expected["mAP"])
    assert found["mINP"] == pytest.approx(100 * expected["mINP"])
    assert found["rank7"] == pytest.approx(100 * expected["cmc"][6])


def test_ranks_beyond_fifty():
    found = build(random_set(1, gallery=90), "TEST.CMC_RANKS", "[1, 80]").evaluate(*random_set(1, gallery=90)[:2])
    assert found["rank80"] == 100.0


def test_per_query_results_on_request():
    arrays = random_set(1)
    found = build(arrays, "TEST.PER_QUERY", "True").evaluate(*arrays[:2])
    per_query = found["per_query"]
    assert set(per_query) == {"AP", "INP", "first_match_rank"}
    assert all(len(column) == len(arrays[0]) for column in per_query.values())
    assert np.nanmean(per_query["AP"]) == pytest.approx(found["mAP"])
    assert np.nanmean(per_query["INP"]) == pytest.approx(found["mINP"])


@pytest.mark.parametrize("metric, normalize", [("euclidean", "False"), ("cosine", "False"), ("euclidean", "True")])
def test_metric_and_normalisation_come_from_the_config(metric, normalize):
    arrays = random_set(1)
    found = build(arrays, "TEST.METRIC", metric, "TEST.NORMALIZE_FEATURES", normalize).evaluate(*arrays[:2])
    if metric == "cosine" or normalize == "True":
        arrays[:2] = [row / np.linalg.norm(row, axis=1, keepdims=True) for row in arrays[:2]]
    assert found["mAP"] == pytest.approx(100 * plain.score(*arrays)["mAP"])


def test_full_results_with_ranked_lists():
    arrays = random_set(1)
    results = build(arrays).rank(*arrays[:2], top_k=4)
    assert results.ranked_lists.positions.shape == (12, 4)
    assert results.per_query is not None
    assert 100 * results.mAP == build(arrays).evaluate(*arrays[:2])["mAP"]


def test_errors_name_the_dataset():
    arrays = random_set(1)
    with pytest.raises(ValueError, match=r"Tiny cannot be scored: The query pids have shape \[12\], but.* 11 feature"):
        build(arrays).evaluate(arrays[0][:11], arrays[1])


def test_ranks_count_from_one():
    with pytest.raises(ValueError, match=r"count from 1, got \[0, 5\]"):
        ReIDEvaluator("Tiny", [], [], cmc_ranks=[0, 5])


def test_an_unknown_metric_is_refused_before_anything_is_encoded():
    with pytest.raises(ValueError, match=r"TEST.METRIC must be one of euclidean, cosine, got 'cosin'"):
        ReIDEvaluator("Tiny", [], [], metric="cosin")


def test_uncounted_queries_are_logged(caplog):
    arrays = random_set(1)
    arrays[2][:2] = 99
    with caplog.at_level("INFO", logger="reid"):
        build(arrays).evaluate(*arrays[:2])
    uncounted = 12 - plain.score(*arrays)["valid"]
    assert f"Tiny: {uncounted} of 12 queries have no true match" in caplog.text


def test_the_curve_on_request():
    arrays = random_set(1)
    assert list(build(arrays).evaluate(*arrays[:2])) == ["mAP", "mINP", "rank1", "rank5", "rank10"]
    found = build(arrays, "TEST.ROC", "True", "TEST.FPR", "[0.01, 0.2]").evaluate(*arrays[:2])
    expected = evaluate(*arrays, normalize=True, false_positive_rates=[0.01, 0.2]).roc.tpr_at
    assert found["TPR@FPR=1e-2"] == 100 * expected[0.01] and found["TPR@FPR=2e-1"] == 100 * expected[0.2]
    with pytest.raises(ValueError, match=r"shares from 0 to 1, got \[1.0, 10.0\]; see TEST.FPR"):
        build(arrays, "TEST.ROC", "True", "TEST.FPR", "[1.0, 10.0]")


def test_camera_pairs_in_results_and_log(caplog):
    arrays = random_set(1)
    with caplog.at_level("INFO", logger="reid"):
        found = build(arrays, "TEST.CAMERA_PAIRS", "True").evaluate(*arrays[:2])["camera_pairs"]
    expected = evaluate(*arrays, normalize=True, camera_pairs=True).camera_pairs
    np.testing.assert_allclose(found["mAP"], 100 * expected.mAP)
    assert found["query_cameras"].tolist() == expected.query_cameras.tolist()
    assert f"Tiny, by pair of cameras:\n{expected.table()}" in caplog.text


def test_a_set_of_one_camera():
    arrays = random_set(1)
    arrays[4][:] = arrays[5][:] = 0
    with pytest.raises(ValueError, match=r"Tiny cannot be scored.*TEST\.CAMERA_RULE False"):
        build(arrays).evaluate(*arrays[:2])
    found = build(arrays, "TEST.CAMERA_RULE", "False").evaluate(*arrays[:2])
    assert found["mAP"] == 100 * evaluate(*arrays[:4], normalize=True, camera_rule=False).mAP


def test_the_rule_of_ones_own_in_the_documentation(monkeypatch):
    arrays = random_set(1, queries=30, gallery=90, cameras=6)
    monkeypatch.setattr(EVALUATOR_REGISTRY, "_obj_map", dict(EVALUATOR_REGISTRY._obj_map))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), re.S)
    (block,) = [block for block in blocks if "class SiteEvaluator" in block]
    exec(block, {})
    found = build(arrays, evaluator="SiteEvaluator").evaluate(*arrays[:2])
    expected = evaluate(*arrays[:4], arrays[4] // 3, arrays[5] // 3, normalize=True)
    assert found["mAP"] == 100 * expected.mAP != build(arrays).evaluate(*arrays[:2])["mAP"]
