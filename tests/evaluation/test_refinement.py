"""Query expansion and re-ranking in an evaluator: scored beside the plain features, by the functions for them."""

import numpy as np
import pytest

from reid_core.evaluation import evaluate, evaluate_distances, results_table
from reid_core.retrieval import expand_queries, rerank
from tests.evaluation.test_ranking import random_set
from tests.evaluation.test_reid_evaluator import build

RERANK = ("TEST.RERANK", "True", "TEST.RERANK_K1", "6", "TEST.RERANK_K2", "3", "TEST.RERANK_LAMBDA", "0.4")
EXPAND = ("TEST.QUERY_EXPANSION", "True", "TEST.QUERY_EXPANSION_K", "4", "TEST.QUERY_EXPANSION_ALPHA", "2.0")


def clean_set(seed=1):
    """Without junk."""
    arrays = random_set(seed, queries=15, gallery=60, width=8)
    kept = [pids != -1 for pids in arrays[2:4]] * 3
    return [column[keep] for column, keep in zip(arrays, kept, strict=True)]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def score(distances, labels, **options):
    return evaluate_distances([(slice(0, len(distances)), distances)], *labels, **options)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("camera_rule", [True, False])
def test_reranked(normalize, metric, camera_rule):
    arrays = clean_set()
    words = ("TEST.NORMALIZE_FEATURES", str(normalize), "TEST.METRIC", metric, "TEST.CAMERA_RULE", str(camera_rule))
    found = build(arrays, *words, *RERANK).evaluate(*arrays[:2])
    distances = rerank(*arrays[:2], 6, 3, 0.4, normalize=normalize or metric == "cosine")
    expected = score(distances, arrays[2:], camera_rule=camera_rule)
    assert found["reranked/mAP"] == 100 * expected.mAP != found["mAP"]
    assert found["reranked/rank5"] == 100 * expected.cmc[4]
    plain_names = ["mAP", "mINP", "rank1", "rank5", "rank10"]
    assert list(found) == [*plain_names, *(f"reranked/{name}" for name in plain_names)]
    assert {name: found[name] for name in plain_names} == build(arrays, *words).evaluate(*arrays[:2])


@pytest.mark.parametrize("augment, rounds", [(True, 1), (False, 2)])
def test_expanded_and_both(augment, rounds):
    arrays = clean_set(2)
    words = ("TEST.QUERY_EXPANSION_GALLERY", str(augment), "TEST.QUERY_EXPANSION_ROUNDS", str(rounds))
    found = build(arrays, *EXPAND, *words, *RERANK, "TEST.ROC", "True").evaluate(*arrays[:2])
    expanded = expand_queries(*map(unit, arrays[:2]), 4, 2.0, rounds, augment_gallery=augment)
    results = evaluate(*expanded, *arrays[2:], normalize=True, false_positive_rates=[1e-3])
    assert found["expanded/mAP"] == pytest.approx(100 * results.mAP)
    assert found["expanded/TPR@FPR=1e-3"] == pytest.approx(100 * results.roc.tpr_at[1e-3])
    both = score(rerank(*expanded, 6, 3, 0.4, normalize=True), arrays[2:])
    assert found["expanded+reranked/mAP"] == pytest.approx(100 * both.mAP)
    assert "reranked/mAP" not in found and "expanded+reranked/TPR@FPR=1e-3" not in found


def test_junk_is_never_read():
    arrays = random_set(3, queries=15, gallery=60, width=8)
    expected = build(arrays, *EXPAND, *RERANK).evaluate(*arrays[:2])
    for side in (0, 1):
        arrays[side][arrays[2 + side] == -1] = np.nan
    assert build(arrays, *EXPAND, *RERANK).evaluate(*arrays[:2]) == expected
    assert expected["expanded+reranked/mAP"] > 0


def test_each_has_a_row_of_its_own_in_the_table():
    arrays = clean_set()
    found = build(arrays, *EXPAND, *RERANK).evaluate(*arrays[:2])
    rows = [line.split("|")[1].strip() for line in results_table({"Tiny": found}).splitlines()]
    assert rows[2:] == ["Tiny", "Tiny, expanded", "Tiny, expanded+reranked"]


@pytest.mark.parametrize(
    "words, message",
    [
        (("TEST.RERANK", "True", "TEST.RERANK_K1", "0"), "TEST.RERANK_K1 .* must be positive.*got 0, 15 and 0.3"),
        (("TEST.RERANK", "True", "TEST.RERANK_LAMBDA", "1.5"), r"TEST.RERANK_LAMBDA in \[0, 1\].* and 1.5"),
        (("TEST.QUERY_EXPANSION", "True", "TEST.QUERY_EXPANSION_K", "0"), "TEST.QUERY_EXPANSION_K .*got 0, 1 and 3.0"),
        (("TEST.QUERY_EXPANSION", "True", "TEST.QUERY_EXPANSION_ALPHA", "-1"), "ALPHA not negative; got 5, 1 and -1.0"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_encoded(words, message):
    with pytest.raises(ValueError, match=message):
        build(clean_set(), *words)


@pytest.mark.parametrize("evaluator", ["RandomGalleryEvaluator", "SingleShotEvaluator"])
@pytest.mark.parametrize("words", [RERANK, EXPAND])
def test_random_galleries_cannot_be_refined(evaluator, words):
    with pytest.raises(ValueError, match=rf"Tiny is scored over random galleries \({evaluator}\).*TEST.RERANK"):
        build(clean_set(), *words, evaluator=evaluator)


def test_errors_name_the_dataset():
    arrays = clean_set()
    arrays[0][0] = 0
    words = ("TEST.NORMALIZE_FEATURES", "False")
    assert build(arrays, *words, *RERANK).evaluate(*arrays[:2])["reranked/mAP"] > 0
    with pytest.raises(ValueError, match="Tiny cannot be scored: .*query and gallery features are all zero"):
        build(arrays, *words, *EXPAND).evaluate(*arrays[:2])
