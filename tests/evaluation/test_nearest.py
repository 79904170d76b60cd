"""The lists kept while the gallery passes by are those of a full sort."""

import pytest
import torch

from reid_core.evaluation.nearest import NearestLists
from reid_core.retrieval.distance import SquaredDistances


@pytest.mark.parametrize("width", [1, 4, 50, 200])
@pytest.mark.parametrize("length", [1, 5, 300])
@pytest.mark.parametrize("levels", [2, 10**6])
def test_equals_a_stable_sort(width, length, levels):
    generator = torch.Generator().manual_seed(levels)
    query, gallery = (torch.randint(0, levels, (n, 3), generator=generator).float() for n in (6, 200))
    source = SquaredDistances(query, gallery)
    rows = slice(2, 6)
    lists = NearestLists(source, rows, length)
    for start in range(0, 200, width):
        columns = slice(start, min(start + width, 200))
        lists.update(source.block(rows, columns), source.row_error(rows, columns), columns)
    squared = (query[rows, None].double() - gallery[None].double()).square().sum(dim=2)
    expected, order = squared.sort(dim=1, stable=True)
    kept = min(length, 200)
    assert lists.indices[:, :kept].tolist() == order[:, :kept].tolist()
    torch.testing.assert_close(lists.distances[:, :kept], expected[:, :kept])
    assert lists.distances[:, kept:].isinf().all()
