"""Re-ranking, clustering and query expansion against the authors' programs."""

import numpy as np
import pytest

from reid_core.retrieval import expand_queries, pseudo_labels, rerank
from reid_core.retrieval.clustering import jaccard_codes
from reid_core.retrieval.k_reciprocal import jaccard_distance, overlap_blocks
from tests.parity import helpers

METRICS = helpers.load("metrics")
HALF_PRECISION = 1e-2  # the authors add up in float16


def split(column: str, unit: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rows = METRICS[column]
    if unit:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return tuple(np.split(rows, [int(METRICS["num_query"])]))


def assert_half_precision(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=HALF_PRECISION)
    assert np.abs(found - expected).mean() < HALF_PRECISION / 10  # single entries are far off, not all


def score(distances: np.ndarray, max_rank: int) -> tuple[float, np.ndarray, int]:
    """mAP and CMC of a dense matrix, query by query, and the number of queries that count."""
    (query_pids, gallery_pids), (query_camids, gallery_camids) = split("pids"), split("camids")
    precisions, firsts = [], []
    for row, pid, camid in zip(distances, query_pids, query_camids, strict=True):
        order = np.argsort(row, kind="stable")
        order = order[(gallery_pids[order] != pid) | (gallery_camids[order] != camid)]
        ranks = np.flatnonzero(gallery_pids[order] == pid) + 1
        if len(ranks):
            precisions.append((np.arange(1, len(ranks) + 1) / ranks).mean())
            firsts.append(ranks[0])
    cmc = (np.array(firsts)[:, None] <= np.arange(1, max_rank + 1)).mean(axis=0)
    return float(np.mean(precisions)), cmc, len(firsts)


@pytest.mark.parametrize("kind, k1, k2, share", helpers.cases("metrics", r"rerank_(raw|unit)_k(\d+)_(\d+)_l(.+)"))
def test_reranked_distances(kind, k1, k2, share):
    found = rerank(*split("feats", unit=kind == "unit"), int(k1), int(k2), float(share))
    assert_half_precision(found, METRICS[f"rerank_{kind}_k{k1}_{k2}_l{share}"])


@pytest.mark.parametrize(("norm",), helpers.cases("metrics", r"r1map_norm(\w+)_rr1_dist"))
def test_reranking_in_the_authors_evaluator_object(norm):
    name = f"r1map_norm{norm}_rr1"  # 50, 15, 0.3; their 'no' is a non-empty string: it normalises
    found = rerank(*split("feats"), 50, 15, 0.3, normalize=norm != "False")
    assert_half_precision(found, METRICS[f"{name}_dist"])
    cmc = METRICS[f"{name}_cmc"]
    mean_precision, found_cmc, counted = score(found, len(cmc))
    assert mean_precision == pytest.approx(float(METRICS[f"{name}_mAP"]), abs=2e-3)
    np.testing.assert_allclose(found_cmc, cmc, atol=1.01 / counted)  # one query


@pytest.mark.parametrize(("name",), helpers.cases("metrics", r"(rerank_local)"))
def test_distances_of_parts_added_to_the_original(name):
    added = METRICS[f"{name}_in"].astype(np.float32)
    found = rerank(*split("feats", unit=True), 20, 6, 0.3, added_distances=added)
    assert_half_precision(found, METRICS[name])


@pytest.mark.parametrize("k1, k2, half", helpers.cases("metrics", r"clu_jaccard_k(\d+)_(\d+)(_fp16)?"))
def test_jaccard_distances_for_clustering(k1, k2, half):
    codes = jaccard_codes(METRICS["clu_feat"], int(k1), int(k2))
    found = [jaccard_distance(part) for _, part in overlap_blocks(codes, codes.T.tocsr(), block_bytes=10**5)]
    expected = METRICS[f"clu_jaccard_k{k1}_{k2}{half}"]
    np.testing.assert_allclose(np.concatenate(found), expected, atol=HALF_PRECISION if half else 2e-6)


@pytest.mark.parametrize("k1, k2, eps", helpers.cases("metrics", r"clu_dbscan_k(\d+)_(\d+)_eps(.+)"))
def test_pseudo_labels(k1, k2, eps):
    found = pseudo_labels(METRICS["clu_feat"], float(eps), 4, int(k1), int(k2))
    np.testing.assert_array_equal(found, METRICS[f"clu_dbscan_k{k1}_{k2}_eps{eps}"])


@pytest.mark.parametrize("rounds, k, alpha", helpers.cases("metrics", r"aqe_t(\d+)_k(\d+)_a([\d.]+)_q"))
def test_expanded_features(rounds, k, alpha):
    name = f"aqe_t{rounds}_k{k}_a{alpha}"
    query, gallery = expand_queries(*split("feats", unit=True), int(k), float(alpha), int(rounds))
    np.testing.assert_allclose(query, METRICS[f"{name}_q"], atol=1e-5)
    first = METRICS[f"{name}_g_first20"]
    np.testing.assert_allclose(gallery[: len(first)], first, atol=1e-5)
    assert float(gallery.double().sum()) == pytest.approx(float(METRICS[f"{name}_gsum"]), rel=1e-5, abs=1e-4)
