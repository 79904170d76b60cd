"""How many true matches of its query a gallery image comes behind: what the ranks are made of, without a sort."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.labelled import SameIdentity
from reid_core.retrieval.distance import SquaredDistances

BYTES_PER_PAIR = 96  # of a block that is counted, in the worst case: the indices that it takes

_ROUNDING = 2.0**-23  # room for the rounding of a float64 to a float32


class Matches(NamedTuple):
    """True matches of a block of queries, nearest first, gallery order at equal distance.

    distances: float64 [R, M], infinite behind a query's last; M is a power of two larger than any count.
    positions: int64 [R, M]. counts: int64 [R].
    """

    distances: Tensor
    positions: Tensor
    counts: Tensor

    def of(self, rows: slice) -> "Matches":
        return Matches(*(column[rows] for column in self))


def sorted_matches(same: SameIdentity, exact: Callable[[Tensor, Tensor], Tensor], queries: int, width: int) -> Matches:
    """The matches among `same`, pairs of so many queries, in a table of that width.

    exact: distances, float64 [N], of pairs given by the numbers of their queries and images.
    """
    query, gallery = same.query[~same.same_camera], same.gallery[~same.same_camera]
    counts = query.bincount(minlength=queries)
    slot = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
    distances = torch.full((len(counts), width), torch.inf, dtype=torch.float64, device=query.device)
    positions = torch.zeros_like(distances, dtype=torch.int64)
    distances[query, slot], positions[query, slot] = exact(query, gallery), gallery
    distances, order = distances.sort(dim=1, stable=True)  # in a row the gallery's order stood before
    return Matches(distances, positions.gather(1, order), counts)


def count_matches_before(
    source: SquaredDistances, block: Tensor, error: Tensor, matches: Matches, rows: slice, columns: slice
) -> Tensor:
    """int64 [R, M]: of each query, the number of images in the block with exactly 0, 1, ... M - 1 matches before them.

    Images behind all matches are not counted: they change no rank. An image whose distance in the block is within
    the error of a match's is compared with the matches by its exact distance, then by its place in the gallery.
    """
    exact = matches.distances * source.unit
    low = (exact * (1 - _ROUNDING) - error[:, None]).float()
    high = (exact * (1 + _ROUNDING) + error[:, None]).float()
    last = high.gather(1, (matches.counts[:, None] - 1).clamp(min=0)).masked_fill(matches.counts[:, None] == 0, -1)
    pair = _nonzero((block <= last).flatten()).int()
    row = pair.div(block.shape[1], rounding_mode="floor")
    distance = block.flatten().index_select(0, pair)
    place = _bisect(high, row, distance)
    doubtful = _nonzero(low.flatten().index_select(0, place) <= distance)
    row, position = row[doubtful], pair[doubtful] % block.shape[1] + columns.start
    distance = source.exact(row + rows.start, position)
    place[doubtful] = _bisect(matches.distances, row, distance, matches.positions, position)
    return place.bincount(minlength=high.numel()).view(high.shape)


def count_exactly(distances: Tensor, matches: Matches) -> Tensor:
    """`count_matches_before` for a whole gallery whose distances, float [R, G], are exact themselves."""
    exact = matches.distances.to(distances.dtype)  # which they come from
    last = exact.gather(1, (matches.counts[:, None] - 1).clamp(min=0))
    last = last.masked_fill(matches.counts[:, None] == 0, -torch.inf)
    pair = _nonzero((distances <= last).flatten()).int()
    row = pair.div(distances.shape[1], rounding_mode="floor")
    distance = distances.flatten().index_select(0, pair)
    place = _bisect(exact, row, distance)
    tied = _nonzero(exact.flatten().index_select(0, place) == distance)
    row, position = row[tied], pair[tied] % distances.shape[1]
    place[tied] = _bisect(exact, row, distance[tied], matches.positions, position)
    return place.bincount(minlength=exact.numel()).view(exact.shape)


def _nonzero(mask: Tensor) -> Tensor:
    """Positions, int64, where the vector is set. On a CPU numpy finds them five times as fast as torch."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def _bisect(
    table: Tensor, row: Tensor, value: Tensor, tie_table: Tensor | None = None, tie_value: Tensor | None = None
) -> Tensor:
    """For each i the place of value[i] in table[row[i]]: the row's start in the flat table plus the number of entries
    less than value[i], or equal with an entry in tie_table less than tie_value[i] (no tie_table: not counted).

    table [R, W]: ascending rows, W a power of two, the last entry infinite. row: int32 [N]. Returns int32 [N].
    """
    entries, place, step = table.flatten(), row * table.shape[1], table.shape[1] // 2
    while step:
        entry = entries[step - 1 :].index_select(0, place)
        less = entry < value
        if tie_table is not None:
            less |= (entry == value) & (tie_table.flatten()[step - 1 :].index_select(0, place) < tie_value)
        place.add_(less, alpha=step)
        step //= 2
    return place
