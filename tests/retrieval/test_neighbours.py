"""Neighbours are those of the exact distances, ties by index, whatever the block size; bad input is named."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.retrieval import nearest_neighbours
from reid_core.retrieval.distance import SquaredDistances
from reid_core.retrieval.neighbours import search
from tests.paths import ROOT
from tests.retrieval import plain


def random_rows(seed, count, width, levels):
    """Normal values; with `levels` whole numbers below it: many equal distances and copies."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, levels, (count, width)) if levels else generator.standard_normal((count, width))
    return rows.astype(np.float32)


@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 12),
    images=st.integers(1, 24),
    k=st.integers(1, 27),
    levels=st.integers(0, 3),
    block_bytes=st.sampled_from([1, 300, 3000, 10**7]),
)
@settings(max_examples=60, deadline=None)
def test_equals_a_sort_of_exact_distances(seed, queries, images, k, levels, block_bytes):
    gallery = random_rows(seed, images, 3, levels)
    for query, among_themselves in ((random_rows(seed + 1, queries, 3, levels), False), (gallery, True)):
        found = nearest_neighbours(query, None if among_themselves else gallery, k, block_bytes=block_bytes)
        expected = plain.squared_distances(query, gallery)
        for i, row in enumerate(expected):
            order = plain.nearest(row, k, i if among_themselves else None)
            assert found.indices[i].tolist() == order
            np.testing.assert_allclose(found.distances[i], [row[j] for j in order], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.farthest, np.max(expected, axis=1), rtol=1e-5, atol=1e-5)


class Vague(SquaredDistances):
    """Blocks as far off as they say, a tenth of the largest distance: all that is exact must come from `exact`."""

    def block(self, rows, columns):
        found = super().block(rows, columns)
        self.off = 0.1 * float(found.max())
        generator = torch.Generator().manual_seed(found.numel())
        return found + self.off * (torch.rand(found.shape, generator=generator) * 2 - 1)

    def error(self, rows, columns=None):
        return super().error(rows, columns) + 0.1 * 4 * float(self._query_norms.max())


@pytest.mark.parametrize("among_themselves", [True, False])
@pytest.mark.parametrize("block_bytes", [2000, 10**7])
def test_no_digit_of_the_product_reaches_the_order(clustered, among_themselves, block_bytes):
    rows = torch.from_numpy(clustered(90))
    expected = plain.squared_distances(rows.numpy(), rows.numpy())
    found = search(Vague(rows, rows), 6, block_bytes=block_bytes, among_themselves=among_themselves)
    for i, row in enumerate(expected):
        assert found.indices[i].tolist() == plain.nearest(row, 6, i if among_themselves else None)


@pytest.mark.parametrize("block_bytes", [10**3, 10**4, 10**5])
def test_block_size_changes_no_index(clustered, block_bytes):
    rows = clustered(300, width=40, noise=0.05)
    rows[100:130] = rows[7]  # more copies than spare candidates
    whole = nearest_neighbours(rows, k=9, metric="cosine")
    parts = nearest_neighbours(rows, k=9, metric="cosine", block_bytes=block_bytes)
    torch.testing.assert_close(parts.indices, whole.indices, rtol=0, atol=0)
    torch.testing.assert_close(parts.distances, whole.distances)
    assert whole.indices[7].tolist() == [7, *range(100, 108)]
    assert whole.indices[110].tolist() == [110, 7, *range(100, 107)]


def test_an_outlier_changes_no_other_list(clustered):
    rows = clustered(200, width=24)
    expected = nearest_neighbours(rows[:199], k=5).indices
    rows[199] = 1e12
    torch.testing.assert_close(nearest_neighbours(rows, k=5).indices[:199], expected)


@pytest.mark.parametrize("scale, shift", [(1, 1000), (1e18, 0), (1e-18, 0)])
def test_magnitude_and_common_offset_cost_no_precision(clustered, scale, shift):
    rows = (clustered(80) * scale + shift).astype(np.float32)
    expected = plain.squared_distances(rows, rows)
    found = nearest_neighbours(rows, k=6)
    for i, row in enumerate(expected):
        assert found.indices[i].tolist() == plain.nearest(row, 6, i)


def test_cosine_distances_are_one_minus_the_cosine(clustered):
    rows = clustered(50)
    found = nearest_neighbours(rows, rows[:20], k=3, metric="cosine")
    cosines = plain.unit(rows) @ plain.unit(rows[:20]).T
    np.testing.assert_allclose(found.distances, np.sort(1 - cosines, axis=1)[:, :3], atol=1e-6)
    np.testing.assert_allclose(found.farthest, (1 - cosines).max(axis=1), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_takes_any_precision_read_only_and_strided_features(clustered, dtype):
    rows = torch.from_numpy(clustered(40)).to(dtype)
    expected = nearest_neighbours(rows.float(), k=4).indices
    torch.testing.assert_close(nearest_neighbours(rows.requires_grad_(), k=4).indices, expected)
    frozen = np.repeat(rows.detach().double().numpy(), 2, axis=1)[:, ::2]
    frozen.flags.writeable = False
    torch.testing.assert_close(nearest_neighbours(frozen, k=4).indices, expected)


def test_the_callers_precision_settings_do_not_matter(clustered):
    rows = clustered(200, width=300)
    expected = nearest_neighbours(rows, k=5).indices
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(nearest_neighbours(rows, k=5).indices, expected)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_is_bounded_by_the_setting():
    """6000 x 6000: the matrix would take 137 MiB."""
    script = """
import re, numpy, torch
from reid_core.retrieval import nearest_neighbours
torch.set_num_threads(1)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
rows = numpy.random.default_rng(0).standard_normal((6000, 32), dtype=numpy.float32)
nearest_neighbours(rows[:500], k=5)
before = peak()
nearest_neighbours(rows, k=5, block_bytes=8 * 2**20)
print(peak() - before)
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert float(output.stdout) < 40


def test_bad_settings_and_shapes_are_named(clustered):
    rows = clustered(20)
    with pytest.raises(ValueError, match="k=0"):
        nearest_neighbours(rows, k=0)
    with pytest.raises(ValueError, match="block_bytes=0"):
        nearest_neighbours(rows, block_bytes=0)
    with pytest.raises(ValueError, match="euclidean, cosine, got 'dot'"):
        nearest_neighbours(rows, metric="dot")
    with pytest.raises(ValueError, match="width 16, gallery features 3"):
        nearest_neighbours(rows, rows[:, :3])
    with pytest.raises(ValueError, match=r"query features must be a matrix.*\[16\]"):
        nearest_neighbours(rows[0])
    with pytest.raises(ValueError, match="gallery features must be a matrix"):
        nearest_neighbours(rows, rows[:0])
    with pytest.raises(ValueError, match="floating-point numbers, got int64"):
        nearest_neighbours(rows.astype(np.int64))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_named(clustered, value):
    rows = clustered(20)
    rows[[4, 9], 2] = value
    with pytest.raises(ValueError, match=r"2 of 20 query features hold NaN or infinite.*first at position 4, 9\."):
        nearest_neighbours(rows)


def test_rows_of_zeros_are_named_where_they_have_no_direction(clustered):
    rows = clustered(20)
    rows[:7] = 0
    with pytest.raises(ValueError, match=r"7 of 20 gallery features are all zero.*position 0, 1, 2, 3, 4, \.\.\."):
        nearest_neighbours(clustered(5), rows, metric="cosine")
    assert nearest_neighbours(rows, k=2).indices[1].tolist() == [1, 0]


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_features_of_a_dead_model_take_no_exact_sums(monkeypatch, value):
    rows = np.full((300, 8), value, dtype=np.float32)
    computed, exact = [], SquaredDistances.exact
    monkeypatch.setattr(SquaredDistances, "exact", lambda *pairs: computed.append(len(pairs[1])) or exact(*pairs))
    found = nearest_neighbours(rows, k=4)
    assert found.indices[:5].tolist() == [[0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2], [4, 0, 1, 2]]
    assert (found.distances == 0).all()
    assert sum(computed) == 0


def test_rows_that_are_searched_again_copy_no_more_features_than_the_setting_allows(monkeypatch):
    """Too many copies for the candidates, so that whole rows are searched: 300 images of 64 numbers in parts of 10."""
    rows = np.repeat(random_rows(0, 3, 64, 0), 100, axis=0)
    widths, shifted = [], SquaredDistances._shifted
    monkeypatch.setattr(
        SquaredDistances, "_shifted", lambda *features: widths.append(len(features[1])) or shifted(*features)
    )
    found = nearest_neighbours(rows, k=4, block_bytes=10 * 64 * 8)
    expected = [[i, *[j for j in range(i // 100 * 100, 300) if j != i][:3]] for i in range(300)]
    assert found.indices.tolist() == expected
    assert max(widths) == 128, "of the norms, which are computed in parts of their own"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_lists_are_the_same_on_cuda(clustered):
    rows = torch.from_numpy(clustered(500, width=64, noise=0.05))
    rows[100:130] = rows[7].clone()
    expected, found = nearest_neighbours(rows, k=9), nearest_neighbours(rows.cuda(), k=9, block_bytes=10**5)
    torch.testing.assert_close(found.indices.cpu(), expected.indices)
    torch.testing.assert_close(found.distances.cpu(), expected.distances)
