"""Re-ranked distances are those of the published algorithm on dense matrices, with ties, copies and any k."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.retrieval import rerank, rerank_blocks
from tests.retrieval import plain


@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 6),
    images=st.integers(1, 14),
    k1=st.integers(1, 25),
    k2=st.integers(1, 25),
    lambda_value=st.sampled_from([0.0, 0.3, 1.0]),
    levels=st.integers(0, 3),
    block_bytes=st.sampled_from([1, 3000, 10**7]),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_dense_algorithm(seed, queries, images, k1, k2, lambda_value, levels, block_bytes):
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, levels, (queries + images, 3)) if levels else generator.random((queries + images, 3))
    query, gallery = np.split(rows.astype(np.float32), [queries])
    found = rerank(query, gallery, k1, k2, lambda_value, block_bytes=block_bytes)
    assert (found.shape, found.dtype) == ((queries, images), np.float32)
    np.testing.assert_allclose(found, plain.rerank(query, gallery, k1, k2, lambda_value), atol=3e-6)


def test_equals_the_dense_algorithm_on_clusters(clustered):
    query, gallery = np.split(clustered(150, noise=0.7), [40])
    expected = plain.rerank(query, gallery, 10, 4, 0.3)
    np.testing.assert_allclose(rerank(query, gallery, 10, 4), expected, atol=3e-6)
    assert np.unique(expected.round(6)).size > 1000  # not all at distance 1


def test_blocks_are_the_rows_in_turn(clustered):
    query, gallery = np.split(clustered(120), [40])
    whole = rerank(query, gallery, 8, 3)
    rows, blocks = zip(*rerank_blocks(query, gallery, 8, 3, block_bytes=6000), strict=True)
    assert len(blocks) > 2
    assert [part.start for part in rows] == [0, *(part.stop for part in rows[:-1])]
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 6),
    images=st.integers(1, 14),
    k=st.sampled_from([(1, 1), (4, 2), (3, 9), (50, 40)]),
    lambda_value=st.sampled_from([0.0, 0.3, 1.0]),
    levels=st.integers(0, 3),
    added_levels=st.sampled_from([None, 0, 2]),
    block_bytes=st.sampled_from([1, 700, 10**7]),
)
@settings(max_examples=60, deadline=None)
def test_the_matrix_is_that_of_the_blocks(seed, queries, images, k, lambda_value, levels, added_levels, block_bytes):
    """Whose original distances are computed anew: copies, distances that are added, blocks of any size."""
    generator, count = np.random.default_rng(seed), queries + images

    def draw(shape, levels):
        return generator.integers(0, levels, shape).astype(np.float64) if levels else generator.random(shape)

    query, gallery = np.split(draw((count, 3), levels), [queries])
    options = {"lambda_value": lambda_value, "block_bytes": block_bytes}
    if added_levels is not None:
        added = draw((count, count), added_levels)
        options["added_distances"] = added + added.T
    whole = rerank(query, gallery, *k, **options)
    rows, blocks = zip(*rerank_blocks(query, gallery, *k, **options), strict=True)
    assert [row for part in rows for row in range(part.start, part.stop)] == list(range(queries))
    np.testing.assert_allclose(whole, np.concatenate(blocks), atol=1e-6)
    again = rerank(query, gallery, *k, **options | {"block_bytes": 64 * 2**20})
    np.testing.assert_allclose(whole, again, atol=1e-6)


def test_copies_of_one_image_are_at_no_distance():
    same = np.full((12, 4), 0.7, dtype=np.float32)
    np.testing.assert_array_equal(rerank(same[:2], same[2:], 20, 6), 0)
    short = rerank(same[:2], same[2:], 3, 2)  # lists too short to hold all copies: who is in them goes by number
    np.testing.assert_allclose(short, plain.rerank(same[:2], same[2:], 3, 2, 0.3), atol=1e-6)
    assert ((short >= 0) & (short < 1)).all()


def test_scaling_to_unit_length(clustered):
    query, gallery = np.split(clustered(60), [20])
    expected = rerank(*(plain.unit(side).astype(np.float32) for side in (query, gallery)), 6, 2)
    np.testing.assert_allclose(rerank(query, gallery, 6, 2, normalize=True), expected, atol=1e-6)
    assert np.abs(rerank(query, gallery, 6, 2) - expected).max() > 1e-3


def test_distances_of_parts_are_added_before_all_else(clustered):
    """Adding the squared distances in further dimensions is the same as having the dimensions."""
    rows = clustered(60, width=12)
    added = np.array(plain.squared_distances(rows[:, 8:], rows[:, 8:]))
    expected = rerank(rows[:20], rows[20:], 6, 2)
    for values in (added, torch.from_numpy(added)):
        found = rerank(rows[:20, :8], rows[20:, :8], 6, 2, added_distances=values, block_bytes=4000)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_takes_tensors_of_any_precision(clustered):
    query, gallery = (torch.from_numpy(side) for side in np.split(clustered(60).astype(np.float16), [20]))
    expected = rerank(query.numpy().astype(np.float32), gallery.numpy().astype(np.float32), 6, 2)
    np.testing.assert_array_equal(rerank(query.requires_grad_(), gallery, 6, 2), expected)


def test_bad_input_is_named(clustered):
    query, gallery = np.split(clustered(30), [10])
    for options in ({"k1": 0}, {"k2": 0}, {"lambda_value": 1.5}, {"lambda_value": -0.1}):
        with pytest.raises(ValueError, match=rf"{next(iter(options))}={next(iter(options.values()))}"):
            rerank(query, gallery, **options)
    with pytest.raises(ValueError, match="width 16, gallery features 5"):
        rerank(query, gallery[:, :5])
    with pytest.raises(ValueError, match=r"must be \[30, 30\]"):
        rerank(query, gallery, added_distances=np.zeros((10, 20)))
    for value in (np.nan, 1e300):  # the second is infinite as float32
        added = np.zeros((30, 30))
        added[2, 7] = added[7, 2] = value
        with pytest.raises(ValueError, match="must be finite .as float32. and symmetric"):
            rerank(query, gallery, added_distances=added)
    gallery[3] = np.nan
    with pytest.raises(ValueError, match="1 of 20 gallery features hold NaN.*position 3"):
        rerank(query, gallery)
    query[2] = 0
    with pytest.raises(ValueError, match="1 of 10 query features are all zero.*position 2"):
        rerank(query, query, normalize=True)
