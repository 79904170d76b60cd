"""Plain scoring against the authors' evaluators: distances, mAP, CMC, and fast-reid's values of each query."""

import numpy as np
import pytest
import torch

from reid_core.evaluation import QueryExpansion, ReIDEvaluator, Reranking, evaluate
from reid_core.retrieval.distance import SquaredDistances, prepare_rows
from reid_core.structures import ReIDImage
from tests.evaluation import plain
from tests.parity import helpers

METRICS = helpers.load("metrics")
METRIC_OF = {"eu": "euclidean", "cos": "cosine"}


def split(column: str) -> tuple[np.ndarray, np.ndarray]:
    return METRICS[column][: int(METRICS["num_query"])], METRICS[column][int(METRICS["num_query"]) :]


def score(max_rank: int, **options):
    return evaluate(*split("feats"), *split("pids"), *split("camids"), max_rank=max_rank, per_query=True, **options)


def squared_distances(metric: str, normalize: bool = False) -> np.ndarray:
    sides = zip(("query", "gallery"), split("feats"), strict=True)
    query, gallery = (prepare_rows(torch.from_numpy(rows), name, metric, normalize) for name, rows in sides)
    rows, columns = torch.arange(len(query)), torch.arange(len(gallery))
    pairs = SquaredDistances(query, gallery).exact(rows.repeat_interleave(len(columns)), columns.repeat(len(rows)))
    return pairs.view(len(rows), len(columns)).numpy()


def assert_scores(found, expected: str) -> None:
    """The same ranking: the CMC can only differ in its last digits (the authors' is float32), the mAP likewise."""
    np.testing.assert_allclose(found.cmc, METRICS[f"{expected}_cmc"], atol=1e-6)
    assert found.mAP == pytest.approx(float(METRICS[f"{expected}_mAP"]), abs=1e-9)


@pytest.mark.parametrize(("name",), helpers.cases("metrics", r"(eu|cos)_mAP"))
def test_scores(name):
    assert_scores(score(len(METRICS[f"{name}_cmc"]), metric=METRIC_OF[name]), name)


@pytest.mark.parametrize(("norm",), helpers.cases("metrics", r"r1map_norm(\w+)_rr0_mAP"))
def test_scores_of_the_authors_evaluator_object(norm):
    name, normalize = f"r1map_norm{norm}_rr0", norm != "False"  # their 'no' is a non-empty string: it normalises
    assert_scores(score(len(METRICS[f"{name}_cmc"]), normalize=normalize), name)
    expected = METRICS[f"{name}_dist"]
    np.testing.assert_allclose(squared_distances("euclidean", normalize), expected, rtol=1e-5, atol=1e-5)


def evaluator(ranks: int, **options) -> ReIDEvaluator:
    """Over the records of the golden set."""
    sides = zip(split("pids"), split("camids"), strict=True)
    records = [[ReIDImage("", int(pid), int(camid)) for pid, camid in zip(*side, strict=True)] for side in sides]
    return ReIDEvaluator("golden", *records, cmc_ranks=range(1, ranks + 1), **options)


@pytest.mark.parametrize(("norm",), helpers.cases("metrics", r"r1map_norm(\w+)_rr1_mAP"))
def test_reranked_scores_of_the_authors_evaluator_object(norm):
    """From features to the table; half precision in the authors' program moves ranks of single queries."""
    name, normalize = f"r1map_norm{norm}_rr1", norm != "False"
    expected = METRICS[f"{name}_cmc"]
    found = evaluator(len(expected), normalize=normalize, reranking=Reranking()).evaluate(*split("feats"))
    counted = score(1).num_valid_queries
    assert found["reranked/mAP"] == pytest.approx(100 * float(METRICS[f"{name}_mAP"]), abs=0.2)
    cmc = [found[f"reranked/rank{rank}"] / 100 for rank in range(1, len(expected) + 1)]
    np.testing.assert_allclose(cmc, expected, atol=1.01 / counted)
    plain_scores = METRICS.get(f"r1map_norm{norm}_rr0_mAP")
    assert plain_scores is None or found["mAP"] == pytest.approx(100 * float(plain_scores), abs=1e-7)


@pytest.mark.parametrize("rounds, k, alpha", helpers.cases("metrics", r"aqe_t(\d+)_k(\d+)_a([\d.]+)_q"))
def test_scores_of_expanded_features(rounds, k, alpha):
    """The table's row is the score of the authors' expanded queries (our gallery: theirs is kept in parts only)."""
    expansion = QueryExpansion(int(k), float(alpha), int(rounds))
    tested = evaluator(1, expansion=expansion)
    query, gallery = expansion.features(*tested.labelled(*split("feats")))
    theirs = METRICS[f"aqe_t{rounds}_k{k}_a{alpha}_q"]
    expected = evaluate(theirs, gallery, *split("pids"), *split("camids"), normalize=True)
    assert tested.evaluate(*split("feats"))["expanded/mAP"] == pytest.approx(100 * expected.mAP, abs=1e-3)
    np.testing.assert_allclose(query, theirs, atol=1e-5)


def test_squared_euclidean_distances():
    np.testing.assert_allclose(squared_distances("euclidean"), METRICS["eu_distmat"], rtol=1e-5, atol=1e-5)


def test_cosine_distances():
    half = squared_distances("cosine") / 2
    np.testing.assert_allclose(half, METRICS["fr_cos_distmat"], rtol=1e-5, atol=1e-5)
    cosine = (1 - half).clip(-1 + 1e-5, 1 - 1e-5)
    np.testing.assert_allclose(np.arccos(cosine), METRICS["cos_distmat"], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("name",), helpers.cases("metrics", r"fr_(eu|cos)_mAP"))
def test_every_query_as_fast_reid_scores_it(name):
    found = score(len(METRICS[f"fr_{name}_cmc"]), metric=METRIC_OF[name])
    assert_scores(found, f"fr_{name}")
    assert found.mINP == pytest.approx(float(METRICS[f"fr_{name}_mINP"]), abs=1e-9)
    counted = found.per_query.first_match_rank > 0
    np.testing.assert_allclose(found.per_query.average_precision[counted], METRICS[f"fr_{name}_AP"], atol=1e-9)
    np.testing.assert_allclose(found.per_query.inverse_negative_penalty[counted], METRICS[f"fr_{name}_INP"], atol=1e-9)


@pytest.mark.parametrize(("name", "rates"), helpers.cases("metrics", r"fr_(eu|cos)_tpr_at_fpr_(.*)"))
@pytest.mark.parametrize("block_bytes", [3000, 2**26])
def test_true_positive_rates_at_fixed_false_positive_rates(name, rates, block_bytes):
    asked = [float(rate) for rate in rates.split("_")]
    found = score(1, metric=METRIC_OF[name], false_positive_rates=asked, block_bytes=block_bytes).roc
    assert [found.num_matching_pairs, found.num_other_pairs] == METRICS[f"fr_{name}_roc_npos_nneg"].tolist()
    expected = METRICS[f"fr_{name}_tpr_at_fpr_{rates}"]
    np.testing.assert_allclose([found.tpr_at[rate] for rate in asked], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name",), helpers.cases("metrics", r"fr_(eu|cos)_roc_sum"))
def test_pairs_of_the_curve(name):
    """Which pairs count: the sums of the distances of matching pairs and of the others."""
    distances = squared_distances(METRIC_OF[name]) * (0.5 if name == "cos" else 1)
    (query_pids, gallery_pids), (query_camids, gallery_camids) = split("pids"), split("camids")
    same = query_pids[:, None] == gallery_pids
    matching = same & (query_camids[:, None] != gallery_camids)
    sums = distances[matching].sum(), distances[~same].sum()
    np.testing.assert_allclose(sums, METRICS[f"fr_{name}_roc_sum"], rtol=1e-5)


def small_set() -> list[np.ndarray]:
    """Queries from number 4 on, the first images of the gallery (INDEX.md, `small_*`)."""
    number = int(METRICS["small_ng"])
    columns = (split(column) for column in ("feats", "pids", "camids"))
    return [rows for query, gallery in columns for rows in (query[4:], gallery[:number])]


def test_a_gallery_smaller_than_the_rank():
    arrays = small_set()
    found = evaluate(*arrays[:4], arrays[4], arrays[5] + 100)
    expected = METRICS["small_nocamoverlap_cmc"]
    np.testing.assert_allclose(found.cmc[: len(expected)], expected, atol=1e-6)
    assert (found.cmc[len(expected) :] == found.cmc[-1]).all()
    assert found.mAP == pytest.approx(float(METRICS["small_nocamoverlap_mAP"]), abs=1e-9)


def test_what_the_authors_program_cannot_score_is_defined():
    """Fewer kept images than ranks, not equally many for each query: theirs raises (`small_outcome`), ours scores."""
    found, expected = evaluate(*small_set()), plain.score(*small_set())
    np.testing.assert_allclose(found.cmc, expected["cmc"], atol=1e-12)
    assert found.mAP == pytest.approx(expected["mAP"], abs=1e-12)


def test_a_set_of_one_camera_is_refused_with_a_reason():
    """Theirs fails an assertion that identities 'do not appear in gallery' (`allsame_outcome`), though they do."""
    same = [np.zeros_like(camids) for camids in split("camids")]
    with pytest.raises(ValueError, match="own camera"):
        evaluate(*split("feats"), *split("pids"), *same)
