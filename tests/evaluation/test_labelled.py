"""Pairs of one identity and their counts are those of two nested loops."""

import numpy as np
import pytest
import torch

from reid_core.evaluation.labelled import IdentityIndex, label


def sides(seed, big=False):
    generator = np.random.default_rng(seed)
    labelled = []
    for name, count in (("query", 15), ("gallery", 60)):
        pids = generator.integers(-1, 6, count) * (10**15 if big else 1)  # -1 times it is no junk
        features = torch.from_numpy(generator.standard_normal((count, 4)).astype(np.float32))
        labelled.append(label(features, pids, generator.integers(-2, 3, count), name, "euclidean", False))
    return labelled


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("big", [False, True])
def test_pairs_and_counts(seed, big):
    query, gallery = sides(seed, big)
    index = IdentityIndex(query, gallery)
    rows = slice(3, 11)
    expected = [
        (i, j, bool(query.camids[rows][i] == gallery.camids[j]))
        for i in range(8)
        for j in range(len(gallery.pids))
        if query.pids[rows][i] == gallery.pids[j]
    ]
    assert list(zip(*(column.tolist() for column in index.pairs(rows)), strict=True)) == expected
    total, elsewhere = index.count()
    for i in range(8):
        assert int(total[3 + i]) == sum(pair[0] == i for pair in expected)
        assert int(elsewhere[3 + i]) == sum(pair[0] == i and not pair[2] for pair in expected)


def test_junk_is_dropped_and_positions_remember_it():
    features = torch.arange(8.0).view(4, 2)
    kept = label(features, [5, -1, -1, 7], [0, 1, 2, 3], "gallery", "euclidean", False)
    assert kept.positions.tolist() == [0, 3]
    assert kept.pids.tolist() == [5, 7]
    assert kept.camids.tolist() == [0, 3]
    assert kept.features.tolist() == [[0, 1], [6, 7]]


def test_nothing_is_copied_where_nothing_is_dropped():
    features = torch.ones(3, 2)
    kept = label(features, [1, 2, 3], [0, 0, 0], "query", "euclidean", False)
    assert kept.features.data_ptr() == features.data_ptr()
