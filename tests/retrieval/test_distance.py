"""The exact distances are exact and depend on the pair alone; the fast ones are no further off than they say.

Added distances are added; bad rows are named.
"""

import numpy as np
import pytest
import torch

from reid_core.retrieval.distance import (
    AddedDistances,
    SquaredDistances,
    as_features,
    check_finite,
    normalise_rows,
    sum_by_halves,
    to_metric,
)
from tests.evaluation.plain import squared_distance

KINDS = ["normal", "unit", "offset", "positive", "large", "tiny", "outlier", "equal", "sparse"]


def all_pairs(source):
    rows, columns = torch.arange(len(source.query)), torch.arange(len(source.gallery))
    return source.exact(rows.repeat_interleave(len(columns)), columns.repeat(len(rows))).view(len(rows), len(columns))


@pytest.mark.parametrize("width", [1, 2, 3, 64, 100, 257])
def test_exact_is_exact_to_the_last_digits_of_float64(width):
    generator = torch.Generator().manual_seed(width)
    query, gallery = torch.randn(5, width, generator=generator), torch.randn(7, width, generator=generator)
    found = all_pairs(SquaredDistances(query, gallery))
    for row in range(5):
        for column in range(7):
            expected = float(squared_distance(query[row], gallery[column]))
            assert float(found[row, column]) == pytest.approx(expected, rel=1e-14)


def test_exact_depends_on_the_pair_alone():
    generator = torch.Generator().manual_seed(0)
    row, column = torch.randn(1, 333, generator=generator), torch.randn(1, 333, generator=generator)
    alone = SquaredDistances(row, column).exact(torch.tensor([0]), torch.tensor([0]))
    among = SquaredDistances(
        torch.cat([torch.randn(3, 333), row]), torch.cat([torch.randn(5000, 333), column.expand(3000, -1)])
    )
    found = among.exact(torch.full((8000,), 3), torch.arange(8000))
    assert (found[5000:] == alone).all()


@pytest.mark.parametrize("width", [1, 127, 128, 129, 1280])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reuse_blocks", [False, True])
def test_block_is_no_further_off_than_it_says(kind, width, reuse_blocks):
    generator = torch.Generator().manual_seed(width)
    query, gallery = torch.randn(40, width, generator=generator), torch.randn(90, width, generator=generator)
    if kind == "unit":
        query, gallery = (torch.nn.functional.normalize(rows, dim=1) for rows in (query, gallery))
    if kind == "offset":
        query, gallery = query + 1000, gallery + 1000
    if kind == "positive":
        query, gallery = query.abs(), gallery.abs()
    if kind in ("large", "tiny"):
        query, gallery = (rows * (1e30 if kind == "large" else 1e-30) for rows in (query, gallery))
    if kind == "outlier":
        gallery[3] *= 1e8
    if kind == "equal":
        query[:], gallery[:] = 1 / 3, 1 / 3
    if kind == "sparse":
        query[torch.rand(query.shape, generator=generator) < 0.9] = 0
    source = SquaredDistances(query, gallery, reuse_blocks)
    exact = all_pairs(source) * source.unit
    for rows in (slice(0, 40), slice(7, 9)):
        for columns in (slice(0, 90), slice(0, 1), slice(3, 60)):
            off = (source.block(rows, columns).double() - exact[rows, columns]).abs()
            error = source.row_error(rows, columns)
            assert (off.amax(dim=1) <= error).all()
            torch.testing.assert_close(source.error(rows, columns).amax(dim=1), error)
    assert kind in ("equal", "outlier") or float(error.max() / exact.max()) < 1e-4  # a bound worth having


@pytest.mark.parametrize("reuse_blocks", [False, True])
def test_blocks_lie_in_one_place_only_if_asked(reuse_blocks):
    source = SquaredDistances(torch.randn(6, 4), torch.randn(9, 4), reuse_blocks)
    first = source.block(slice(0, 3), slice(0, 9))
    before = first.clone()
    second = source.block(slice(3, 6), slice(0, 9))
    assert (first.data_ptr() == second.data_ptr()) == reuse_blocks
    assert torch.equal(first, second if reuse_blocks else before)
    torch.testing.assert_close(source.block(torch.tensor([1, 5]), slice(0, 9))[0], before[1])


def test_as_features_shares_memory_where_nothing_is_converted():
    features = np.ones((3, 2), dtype=np.float32)
    assert as_features(features, "query").data_ptr() == features.ctypes.data
    assert as_features(features.astype(">f4"), "query").tolist() == features.tolist()
    assert as_features(np.ones((3, 2), np.longdouble), "query").dtype == torch.float32


def test_normalised_rows_have_unit_length_to_the_last_digit():
    rows = torch.randn(2000, 77, generator=torch.Generator().manual_seed(0)) * torch.logspace(-30, 30, 2000)[:, None]
    expected = rows.double() / rows.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(normalise_rows(rows, "query").double(), expected, rtol=1e-7, atol=1e-37)


def test_bad_rows_are_counted_in_all_parts_and_named_by_their_positions():
    rows = torch.ones(3000, 2)
    rows[[2, 2500], 1] = torch.nan
    with pytest.raises(ValueError, match=r"2 of 3000 gallery features hold NaN.*position 12, 2510\."):
        check_finite(rows, "gallery", torch.arange(10, 3010))
    rows[[2, 2500]] = 0
    with pytest.raises(ValueError, match=r"2 of 3000 query features are all zero.*position 2, 2500\."):
        normalise_rows(rows, "query")


def test_sums_are_added_in_the_order_of_halves():
    def by_halves(row):
        half = (len(row) + 1) // 2
        if len(row) == 1:
            return row[0]
        return by_halves([a + b for a, b in zip(row, row[half:], strict=False)] + row[len(row) - half : half])

    for width in (1, 2, 3, 5, 100, 1280):
        rows = torch.randn(3, width, dtype=torch.float64, generator=torch.Generator().manual_seed(width))
        expected = [by_halves(row) for row in rows.tolist()]
        assert sum_by_halves(rows).tolist() == expected


def test_a_precision_that_torch_will_not_tell_counts_as_reduced(monkeypatch):
    def refuse():
        raise RuntimeError("mix of the legacy and new APIs")

    source = SquaredDistances(torch.randn(3, 8), torch.randn(4, 8))
    expected = source.block(slice(0, 3), slice(0, 4))
    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    torch.testing.assert_close(source.block(slice(0, 3), slice(0, 4)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", ["high", "medium"])
def test_products_that_torch_may_round_are_taken_in_float64(level, monkeypatch):
    used = []
    product = torch.Tensor.addmm_
    monkeypatch.setattr(torch.Tensor, "addmm_", lambda self, *a, **k: (used.append(self.dtype), product(self, *a, **k)))
    source = SquaredDistances(torch.randn(3, 200), torch.randn(4, 200))
    expected = source.block(slice(0, 3), slice(0, 4))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(level)
    try:
        found = source.block(slice(0, 3), slice(0, 4))
    finally:
        torch.set_float32_matmul_precision(before)
    assert used == [torch.float32] * 2 + [torch.float64] * 2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_to_metric():
    left, right = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    squared = SquaredDistances(left, right).exact(torch.tensor([0]), torch.tensor([0]))
    assert float(to_metric(squared, "euclidean")) == pytest.approx(0.8**0.5, abs=1e-7)
    assert float(to_metric(squared, "cosine")) == pytest.approx(0.4, abs=1e-7)


def added_for(count, dtype=np.float32):
    values = np.random.default_rng(1).uniform(0, 2, (count, count))
    return (values + values.T).astype(dtype)


@pytest.mark.parametrize("width", [3, 300])
@pytest.mark.parametrize("scale, shift", [(1, 0), (1, 1000), (1e15, 0), (1e-15, 0)])
@pytest.mark.parametrize("added", [False, True])
def test_the_product_is_within_its_error(width, scale, shift, added):
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((60, width)) * scale + shift).float()
    extra = added_for(60) * scale**2
    source = AddedDistances(rows, extra) if added else SquaredDistances(rows, rows)
    left, right = slice(5, 25), slice(10, 60)
    expected = (rows[left, None].double() - rows[None, right].double()).square().sum(dim=2)
    if added:
        expected += torch.from_numpy(extra)[left, right]
    row, column = torch.meshgrid(torch.arange(5, 25), torch.arange(10, 60), indexing="ij")
    exact = source.exact(row.flatten(), column.flatten()).view(20, 50)
    torch.testing.assert_close(exact, expected, rtol=1e-12, atol=0)
    off = (source.block(left, right).double() - exact * source.unit).abs()
    assert (off <= source.error(left, right)).all()
    assert (source.error(left, right) <= source.error(left)[:, None]).all()
    assert off.max() > 0
    numbers = torch.arange(5, 25)
    torch.testing.assert_close(source.block(numbers, right), source.block(left, right))
    torch.testing.assert_close(source.error(numbers, right), source.error(left, right))


def test_added_distances_that_do_not_fit_are_named():
    rows = torch.ones(30, 4)
    with pytest.raises(ValueError, match=r"must be \[30, 30\], queries first, got \[20, 20\]"):
        AddedDistances(rows, added_for(20))
    lopsided, infinite = added_for(30), added_for(30)
    lopsided[3, 4] += 1
    infinite[5, 5] = np.inf
    for bad in (lopsided, infinite):
        with pytest.raises(ValueError, match=r"finite .* and symmetric"):
            AddedDistances(rows, bad)
