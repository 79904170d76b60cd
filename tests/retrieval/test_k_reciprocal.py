"""Neighbourhoods, codes and overlaps are those of plain sets and loops, in any blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from reid_core.retrieval.distance import SquaredDistances
from reid_core.retrieval.k_reciprocal import (
    encode,
    expanded_neighbourhoods,
    jaccard_distance,
    overlap_blocks,
    reciprocal_neighbours,
)
from reid_core.retrieval.neighbours import search
from tests.retrieval import plain


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 25),
    length=st.integers(1, 12),
    half_length=st.integers(1, 7),
    block_bytes=st.sampled_from([1, 1000, 10**6]),
)
@settings(max_examples=80, deadline=None)
def test_neighbourhoods_are_the_published_sets(seed, count, length, half_length, block_bytes):
    generator = np.random.default_rng(seed)
    listed = min(max(length, half_length), count)
    lists = np.stack([generator.permutation(count)[:listed] for _ in range(count)])
    found = expanded_neighbourhoods(lists, length, half_length, block_bytes=block_bytes)
    assert found.has_sorted_indices
    for i, expected in enumerate(plain.neighbourhoods(lists.tolist(), length, half_length)):
        assert found[[i]].indices.tolist() == sorted(expected)


def test_two_thirds_are_not_enough():
    """R(1, half) = {1, 2, 3} shares two of three images with R(0) = {0, 1, 2}: more than two thirds are needed."""
    lists = np.array([[0, 1, 2, 4], [1, 2, 3, 0], [2, 1, 0, 3], [3, 1, 2, 5], [4, 5, 3, 2], [5, 4, 3, 2]])
    halves = reciprocal_neighbours(lists[:, :3])
    assert halves[[1]].indices.tolist() == [1, 2, 3]
    found = expanded_neighbourhoods(lists, 4, 3, block_bytes=100)
    assert found[[0]].indices.tolist() == [0, 1, 2]


@pytest.mark.parametrize("block_bytes", [1, 500, 10**6])
@pytest.mark.parametrize("rows, others", [(7, 30), (1, 1), (20, 3)])
def test_overlaps_are_sums_of_minima(block_bytes, rows, others):
    generator = np.random.default_rng(0)
    dense = (generator.random((count, 40), dtype=np.float32) for count in (rows, others))
    codes, targets = (sparse.csr_matrix(values * (values > 0.8)) for values in dense)
    codes.data[:1] = 0  # a stored zero
    starts, blocks = zip(*overlap_blocks(codes, targets.T.tocsr(), block_bytes=block_bytes), strict=True)
    assert [part.start for part in starts] == [0, *(part.stop for part in starts[:-1])]
    expected = np.minimum(codes.toarray()[:, None], targets.toarray()[None]).sum(axis=2, dtype=np.float64)
    np.testing.assert_allclose(np.concatenate(blocks), expected, rtol=1e-12)


def test_jaccard_distance_stays_within_its_range():
    found = jaccard_distance(np.array([0, 0.5, 1, 1 + 1e-7]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1, 2 / 3, 0, 0], rtol=1e-6)
    assert found[-1] == 0


@pytest.mark.parametrize("k2", [1, 4])
@pytest.mark.parametrize("copies", [0, 30])
def test_codes_sum_to_one_and_do_not_depend_on_blocks(clustered, k2, copies):
    rows = torch.from_numpy(clustered(90))
    rows[:copies] = rows[0].clone()
    source = SquaredDistances(rows, rows)
    found = []
    for block_bytes in (1000, 10**7):
        lists = search(source, 8, block_bytes=block_bytes, among_themselves=True)
        found.append(encode(source, lists, 8, 4, k2, block_bytes=block_bytes).toarray())
    np.testing.assert_allclose(found[0].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
