"""Exact nearest neighbours in blocks of bounded memory, equal distances by index.

The matrix product in float32 finds a few more candidates than asked for. Where the rounding of the product could
have changed their order, or let one slip behind the candidates' end, exact distances decide; so the lists depend
neither on the block size nor on the number of threads nor on the device.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_core.retrieval.distance import NO_ERROR, SquaredDistances, prepare_features

_BYTES_PER_PAIR = 16  # of a block: its distance, that of the transposed copy, and the room of the partial sort
_BYTES_PER_VALUE = 8  # of the features that a few rows are multiplied by: a shifted copy
_SPARE = 8  # candidates beyond the k: room for neighbours that the product's rounding puts in another order
_ROWS = 4096  # rows whose lists are settled at a time


class Neighbours(NamedTuple):
    """Lists of the nearest images of each query, nearest first.

    indices: int64 [Q, k]. distances: float32 [Q, k], squared Euclidean or 1 - cosine, to the precision of a float32
    product (about 1e-6 of the squared lengths). farthest: float32 [Q], the largest distance of the row.
    """

    indices: Tensor
    distances: Tensor
    farthest: Tensor


@torch.no_grad()
def nearest_neighbours(
    query: np.ndarray | Tensor,
    gallery: np.ndarray | Tensor | None = None,
    k: int = 10,
    *,
    metric: str = "euclidean",
    device: torch.device | str | None = None,
    block_bytes: int = 64 * 2**20,
) -> Neighbours:
    """The k nearest gallery images of each query, exactly; equal distances by index in the gallery.

    query [Q, D], gallery [G, D]: floating point, any precision; the order is that of the exact distances between
    their float32 values (scaled to unit length for metric "cosine"). gallery None: neighbours among the queries
    themselves; each is then the first in its own list, before its copies. k is cut to the size of the gallery.
    device: CPU or CUDA (float64 is needed); None: where `query` is. block_bytes: working memory (about) beside the
    features and the lists, whatever Q and G.

    Raises ValueError for shapes that do not fit, NaN or infinite features, and zero rows with metric "cosine".
    """
    query = prepare_features(query, "query", metric, device)
    if gallery is None:
        source = SquaredDistances(query, query)
    else:
        gallery = prepare_features(gallery, "gallery", metric, query.device)
        check_widths(query, gallery)
        source = SquaredDistances(query, gallery)
    found = search(source, k, block_bytes=block_bytes, among_themselves=gallery is None)
    if metric == "euclidean":
        return found
    return found._replace(distances=found.distances / 2, farthest=found.farthest / 2)


def check_widths(query: Tensor, gallery: Tensor) -> None:
    """Raise ValueError if the features of the two sides are not equally wide."""
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"Query features have width {query.shape[1]}, gallery features {gallery.shape[1]}: not of one model."
        )


def search(
    source: SquaredDistances,
    k: int,
    *,
    block_bytes: int,
    among_themselves: bool,
    itself_first: bool = True,
    split: int = 0,
    between: np.ndarray | None = None,
) -> Neighbours:
    """`nearest_neighbours` by squared distances from a source.

    among_themselves: query and gallery are one set, whose distances are symmetric; half of the products suffice.
    itself_first: an image is then the first in its own list, at distance 0, whatever the source says.
    between: float32 [split, N - split], filled with the distances of the first `split` images of the set to the others,
    by the product, in `source.unit`s: they are computed anyway.
    """
    itself_first = among_themselves and itself_first
    if k < 1 or block_bytes < 1:
        raise ValueError(f"k and block_bytes must be positive, got k={k}, block_bytes={block_bytes}.")
    queries, images = len(source.query), len(source.gallery)
    k = min(k, images)
    candidates = _Candidates(queries, min(k + _SPARE, images), source.query.device)
    side = max(1, math.isqrt(block_bytes // _BYTES_PER_PAIR))
    for top in range(0, queries, side):
        rows = slice(top, min(top + side, queries))
        for left in range(top if among_themselves else 0, images, side):
            columns = slice(left, min(left + side, images))
            block = source.block(rows, columns)
            if between is not None:
                _fill(between, block, rows, columns, split)
            if itself_first and left == top:
                block.fill_diagonal_(-torch.inf)
            candidates.update(block, rows, left)
            if among_themselves and left > top:
                candidates.update(block.T, columns, top)
    indices = torch.empty(queries, k, dtype=torch.int64, device=source.query.device)
    distances = torch.empty(queries, k, dtype=torch.float32, device=source.query.device)
    for top in range(0, queries, _ROWS):
        rows = torch.arange(top, min(top + _ROWS, queries), device=indices.device)
        settled = _settle(source, candidates.distances[rows].double(), candidates.indices[rows], rows, k)
        distances[rows], indices[rows] = (settled[0] / source.unit).float(), settled[1]
        unsettled = rows[settled[2]]
        height = max(1, block_bytes // (8 * _BYTES_PER_PAIR * images))
        for some in unsettled.split(height) if len(unsettled) else ():
            found = _search_rows(source, some, k, itself_first, block_bytes)
            distances[some], indices[some] = (found[0] / source.unit).float(), found[1]
    return Neighbours(indices, distances.clamp_(min=0), (candidates.farthest / source.unit).clamp_(min=0))


class _Candidates:
    """The nearest `length` images of each query by the product, ascending, and its largest distance, in units."""

    def __init__(self, queries: int, length: int, device: torch.device):
        self.distances = torch.full((queries, length), torch.inf, device=device)
        self.indices = torch.zeros(queries, length, dtype=torch.int64, device=device)
        self.farthest = torch.full((queries,), -torch.inf, device=device)

    def update(self, block: Tensor, rows: slice, left: int) -> None:
        """Take in the distances [rows, columns] between `rows` and the images from number `left` on."""
        length = self.distances.shape[1]
        torch.maximum(self.farthest[rows], block.amax(dim=1), out=self.farthest[rows])
        below = block < self.distances[rows, -1:]
        found = _count(below)
        if not found:
            return
        counts, most = None, block.shape[1]
        if found <= 4 * length * len(block):
            row, column = _positions(below)
            counts = torch.bincount(row, minlength=len(block))
            most = int(counts.max())
        if most > 4 * length:  # the first blocks of a row: all that is in them is nearer
            changed = torch.arange(len(block), device=block.device)
            nearest, index = block.contiguous().topk(min(length, block.shape[1]), dim=1, largest=False)
        else:
            changed = counts.nonzero().squeeze(1)
            nearest, index = _pack(block[row, column], column, row, counts)
            nearest, index = nearest[changed], index[changed]
        changed = changed + rows.start
        distances, place = torch.cat([self.distances[changed], nearest], dim=1).topk(length, dim=1, largest=False)
        self.indices[changed] = torch.cat([self.indices[changed], index + left], dim=1).gather(1, place)
        self.distances[changed] = distances


def _fill(between: np.ndarray, block: Tensor, rows: slice, columns: slice, split: int) -> None:
    """Copy what lies in the block between images before and from number `split` on."""
    above, right = slice(rows.start, min(rows.stop, split)), slice(max(columns.start, split), columns.stop)
    if above.start < above.stop and right.start < right.stop:
        part = block[: above.stop - rows.start, right.start - columns.start :]
        torch.from_numpy(between[above, right.start - split : right.stop - split]).copy_(part)


def _count(mask: Tensor) -> int:
    """How much of a mask is set; on a CPU ten times faster than torch's."""
    return int(np.count_nonzero(mask.numpy())) if mask.device.type == "cpu" else int(mask.count_nonzero())


def _positions(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns, int64 [P], where a mask [R, C] is set, sorted by row; the mask may be a transposed view."""
    if not mask.is_contiguous():
        column, row = _positions(mask.T.contiguous())
        order = row.argsort(stable=True)
        return row[order], column[order]
    if mask.device.type == "cpu":  # a few times faster than torch's where little is set
        found = torch.from_numpy(np.flatnonzero(mask.numpy()))
    else:
        found = mask.flatten().nonzero().squeeze(1)
    return found // mask.shape[1], found % mask.shape[1]


def _pack(values: Tensor, indices: Tensor, row: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Lists [R, longest] of values and of indices, given one after another by ascending row; the rest is inf."""
    slot = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    packed = values.new_full((len(counts), int(counts.max())), torch.inf)
    packed_indices = indices.new_zeros(packed.shape)
    packed[row, slot], packed_indices[row, slot] = values, indices
    return packed, packed_indices


def _settle(
    source: SquaredDistances, distances: Tensor, indices: Tensor, rows: Tensor, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The first k candidates in their exact order: float64 and int64 [R, k]; and which rows need more candidates.

    distances: float64 [R, L] by the product, ascending. Neighbours in a list that are too close to tell apart form
    chains; their exact distances take the place of the product's. An image before all others (itself) has -inf.
    """
    close = distances.diff(dim=1) <= 2.001 * source.error(rows)[:, None]
    if distances.shape[1] < len(source.gallery):
        unsettled = close[:, k - 1 :].all(dim=1)
    else:
        unsettled = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    doubtful = torch.nn.functional.pad(close, (1, 0)) | torch.nn.functional.pad(close, (0, 1))
    doubtful &= ~unsettled[:, None]
    row, slot = doubtful.nonzero().unbind(1)
    distances[row, slot] = source.exact(rows[row], indices[row, slot]) * source.unit
    return *_in_order(distances, indices, k), unsettled


def _search_rows(
    source: SquaredDistances, rows: Tensor, k: int, itself_first: bool, block_bytes: int
) -> tuple[Tensor, Tensor]:
    """The k nearest images of a few queries by exact distances of all that could be among them."""
    everything = slice(0, len(source.gallery))
    block, error = source.query.new_empty(len(rows), everything.stop), source.error(rows, everything)
    width = max(1, block_bytes // (_BYTES_PER_VALUE * source.gallery.shape[1]))
    for left in range(0, everything.stop, width):
        columns = slice(left, min(left + width, everything.stop))
        block[:, columns] = source.block(rows, columns)
    limit = (block + error).kthvalue(k, dim=1).values
    possible = block - 1.001 * error <= (limit * (1 + 2.0**-22))[:, None]
    if itself_first:
        possible[torch.arange(len(rows), device=rows.device), rows] = True
    row, column = possible.nonzero().unbind(1)
    exact = torch.zeros(len(row), dtype=torch.float64, device=rows.device)
    apart = error[row, column] > NO_ERROR  # else both are the middle of the gallery: a dead model's features all are
    exact[apart] = source.exact(rows[row[apart]], column[apart]) * source.unit
    if itself_first:
        exact[rows[row] == column] = -torch.inf
    return _in_order(*_pack(exact, column, row, possible.sum(dim=1)), k)


def _in_order(distances: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k of each row by distance, then by index."""
    order = indices.argsort(dim=1)
    distances, indices = distances.gather(1, order), indices.gather(1, order)
    order = distances.argsort(dim=1, stable=True)[:, :k]
    return distances.gather(1, order), indices.gather(1, order)
