"""Expanded features are the plain weighted means."""

import numpy as np
import pytest
import torch

from reid_core.retrieval import expand_queries
from tests.retrieval import plain


@pytest.mark.parametrize("k, alpha, rounds", [(1, 3, 1), (5, 3, 1), (5, 0, 1), (4, 1.5, 2), (200, 2, 1)])
@pytest.mark.parametrize("block_bytes", [1, 10**7])
def test_both_sides_are_the_plain_mean(clustered, k, alpha, rounds, block_bytes):
    rows = clustered(70)
    expected = rows
    for _ in range(rounds):
        expected = plain.expand(expected, k, alpha)
    query, gallery = expand_queries(rows[:20], torch.from_numpy(rows[20:]), k, alpha, rounds, block_bytes=block_bytes)
    assert (query.dtype, gallery.dtype) == (torch.float32, torch.float32)
    np.testing.assert_allclose(query, expected[:20], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gallery, expected[20:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k, rounds", [(1, 1), (4, 1), (4, 3), (100, 1)])
def test_queries_alone(clustered, k, rounds):
    rows = clustered(60)
    gallery = rows[20:]
    expected = rows[:20].astype(np.float64)
    for _ in range(rounds):
        cosines = (plain.unit(expected) @ plain.unit(gallery).T).clip(0)
        for i, row in enumerate(cosines):
            chosen = plain.nearest([-value for value in row], k - 1)
            total = expected[i] + sum(row[j] ** 3 * np.float64(gallery[j]) for j in chosen)
            expected[i] = total / (1 + len(chosen))
    found, same = expand_queries(rows[:20], gallery, k, 3, rounds, augment_gallery=False, block_bytes=2000)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(same, gallery)


def test_images_at_more_than_a_right_angle_count_nothing():
    query, gallery = np.array([[2.0, 0]]), np.array([[-1.0, 0.2]])
    found, _ = expand_queries(query, gallery, 2, 0.5)  # the plain power of a negative cosine would be NaN
    np.testing.assert_allclose(found, [[1, 0]])


def test_the_input_stays_as_it_was(clustered):
    rows = clustered(30)
    before = rows.copy()
    for augment in (True, False):
        expand_queries(rows[:10], rows[10:], 3, augment_gallery=augment)
    np.testing.assert_array_equal(rows, before)


def test_bad_input_is_named(clustered):
    rows = clustered(30)
    for options in ({"k": 0}, {"rounds": 0}, {"alpha": -1}):
        with pytest.raises(ValueError, match=rf"{next(iter(options))}={next(iter(options.values()))}"):
            expand_queries(rows[:10], rows[10:], **options)
    with pytest.raises(ValueError, match="width 16, gallery features 4"):
        expand_queries(rows[:10], rows[10:, :4])
    rows[13] = 0
    for augment in (True, False):
        with pytest.raises(ValueError, match="gallery features are all zero"):
            expand_queries(rows[:10], rows[10:], augment_gallery=augment)
