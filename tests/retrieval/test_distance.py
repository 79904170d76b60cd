"""The product stays within the error that it states; added distances are added; bad ones are named."""

import numpy as np
import pytest
import torch

from reid_core.retrieval.distance import AddedDistances, SquaredDistances


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
        with pytest.raises(ValueError, match="finite and symmetric"):
            AddedDistances(rows, bad)
