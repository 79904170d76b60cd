"""Sampled distances are distances of pairs of the set, of the kind they claim, the same for the same seed."""

import numpy as np
import pytest

from reid_core.evaluation import sample_distances
from tests.evaluation.test_ranking import random_set


@pytest.mark.parametrize("metric, normalize", [("euclidean", False), ("euclidean", True), ("cosine", False)])
def test_samples_are_distances_of_pairs_of_their_kind(metric, normalize):
    arrays = random_set(1)
    query, gallery, query_pids, gallery_pids, query_camids, gallery_camids = arrays
    if metric == "cosine" or normalize:
        query, gallery = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, gallery))
    distances = np.linalg.norm(query[:, None] - gallery[None], axis=2)
    if metric == "cosine":
        distances = 1 - query @ gallery.T
    real = (query_pids[:, None] != -1) & (gallery_pids[None] != -1)
    same = (query_pids[:, None] == gallery_pids[None]) & real
    elsewhere = same & (query_camids[:, None] != gallery_camids[None])
    for found, wanted in zip(
        sample_distances(*arrays, metric=metric, normalize=normalize, count=500), (elsewhere, real & ~same), strict=True
    ):
        gaps = np.abs(found[:, None] - distances[wanted][None]).min(axis=1)
        assert gaps.max() < 1e-6
    everything = sample_distances(*arrays, metric=metric, normalize=normalize, count=500)[0]
    np.testing.assert_allclose(np.sort(everything), np.sort(distances[elsewhere]), atol=1e-6)  # there are fewer


def test_the_seed_and_the_count_decide():
    arrays = random_set(2, queries=60, gallery=300)
    first, again, other = (sample_distances(*arrays, count=50, seed=seed) for seed in (0, 0, 1))
    for kind in (0, 1):
        assert len(first[kind]) <= 50
        np.testing.assert_array_equal(first[kind], again[kind])
        assert set(first[kind]) != set(other[kind])


def test_a_set_without_pairs_gives_empty_samples():
    same, different = sample_distances(np.eye(2), np.eye(2), [0, 1], [2, 3], [0, 0], [1, 1])
    assert (len(same), len(different)) == (0, 10_000)


def test_without_the_camera_rule_pairs_of_one_camera_count():
    query, gallery = np.zeros((1, 2)), np.array([[3.0, 4.0], [6.0, 8.0]])
    labels = [1], [1, 1], [0], [0, 1]
    for camera_rule, expected in ((True, [10.0]), (False, [5.0, 10.0])):
        same, _ = sample_distances(query, gallery, *map(np.array, labels), camera_rule=camera_rule)
        assert sorted(same) == expected
