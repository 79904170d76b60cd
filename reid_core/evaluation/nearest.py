"""The nearest gallery images of a block of queries, kept while the gallery passes by in blocks."""

import torch
from torch import Tensor

from reid_core.retrieval.distance import SquaredDistances


class NearestLists:
    """The `length` nearest gallery rows of each query in `rows`, by exact distance, ties in gallery order.

    distances: float64 [R, length], infinite where too few rows were seen. indices: int64 [R, length].
    """

    def __init__(self, source: SquaredDistances, rows: slice, length: int):
        self._source, self._rows = source, rows
        shape, device = (rows.stop - rows.start, length), source.query.device
        self.distances = torch.full(shape, torch.inf, dtype=torch.float64, device=device)
        self.indices = torch.full(shape, -1, dtype=torch.int64, device=device)

    def update(self, block: Tensor, error: Tensor, columns: slice) -> None:
        """Take in a block of `SquaredDistances.block`; blocks come in the gallery's order."""
        length, width = self.distances.shape[1], block.shape[1]
        limit = self.distances[:, -1] * self._source.unit * (1 + 2**-23) + error
        if width > length:  # whatever is further than the block's own last candidate can be is out, too
            limit = limit.minimum(block.topk(length, dim=1, largest=False).values[:, -1] + 2.001 * error)
        row, column = (block <= limit.float().nextafter(torch.full_like(error, torch.inf))[:, None]).nonzero().unbind(1)
        if not len(row):
            return
        exact = self._source.exact(row + self._rows.start, column + columns.start)
        counts = row.bincount(minlength=len(block))
        slot = length + torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        shape = (len(block), length + int(counts.max()))
        distances = self.distances.new_full(shape, torch.inf)
        indices = self.indices.new_full(shape, -1)
        distances[:, :length], indices[:, :length] = self.distances, self.indices
        distances[row, slot], indices[row, slot] = exact, column + columns.start
        order = distances.argsort(dim=1, stable=True)[:, :length]
        self.distances, self.indices = distances.gather(1, order), indices.gather(1, order)
