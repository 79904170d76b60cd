"""The receiver operating characteristic of verification: which pairs are of one identity, by their distance alone.

As the field's programs count it (fast-reid): a pair of different identities is the positive class and the distance its
score. The false positive rate at a threshold is the share of matching pairs at that distance or beyond, the true
positive rate the share of the others there. Matching pairs are those that the ranking counts; the other pairs include
those of queries without a match.

The thresholds are distances of matching pairs, known before the gallery passes by: so each block need only be counted
at a few of them, and the rates there are exact.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from reid_core.evaluation.labelled import IdentityIndex
from reid_core.evaluation.results import RocCurve
from reid_core.retrieval.distance import SquaredDistances, to_metric

_POINTS = 33  # of the curve, at evenly spaced false positive rates
_NEIGHBOURS = 3  # points on either side of an asked rate's that are counted too
_FEW = 64  # distinct distances of matching pairs: all of them are points
_QUERIES = 512  # whose matching pairs are measured at a time
_BYTES_PER_PAIR = 16  # the interval's number, and room for the few pairs that are measured exactly
_ROUNDING = 2.0**-23  # room for the rounding of a float64 to a float32


class RocCounter:
    """Counts the pairs that do not match at each threshold of the curve, block by block.

    rates: false positive rates asked for, in [0, 1].
    """

    def __init__(self, source: SquaredDistances, index: IdentityIndex, rates: Sequence[float]):
        self._source, self._rates = source, tuple(rates)
        matching, same_identity, total = [], 0, len(source.query)
        for start in range(0, total, _QUERIES):
            same = index.pairs(slice(start, min(start + _QUERIES, total)))
            mine = ~same.same_camera
            matching.append(source.exact(same.query[mine] + start, same.gallery[mine]))
            same_identity += len(mine)
        values, multiplicity = torch.cat(matching).unique(return_counts=True)
        self._values, self._multiplicity = values.flip(0), multiplicity.flip(0)  # the farthest first
        self._beyond = self._multiplicity.cumsum(0)  # matching pairs at a value or beyond
        self._others = total * len(source.gallery) - same_identity
        self._chosen = self._choose()
        self._ascending = self._values[self._chosen].flip(0)
        # [0, i]: pairs with exactly i thresholds below their distance; [1, i]: with exactly i not above it.
        self._counts = self._multiplicity.new_zeros(2, len(self._chosen) + 1)

    def _nearest(self, rate: float) -> int:
        return int((self._beyond / self._beyond[-1] - rate).abs().argmin())

    def _choose(self) -> Tensor:
        """Positions of the thresholds in the sorted distinct distances of matching pairs, rising."""
        if len(self._values) <= _FEW:
            return torch.arange(len(self._values), device=self._values.device)
        spread = torch.linspace(0, 1, _POINTS, dtype=torch.float64).tolist()
        around = range(-_NEIGHBOURS, _NEIGHBOURS + 1)
        wanted = {self._nearest(rate) for rate in spread}
        wanted |= {self._nearest(rate) + step for rate in self._rates for step in around}
        return torch.tensor(sorted(wanted & set(range(len(self._values)))), device=self._values.device)

    def update(self, block: Tensor, error: Tensor, rows: slice, columns: slice, block_bytes: int) -> None:
        """Take in a block of `SquaredDistances.block` in which the pairs of one identity are infinitely far apart."""
        height = max(1, block_bytes // _BYTES_PER_PAIR // block.shape[1])
        for part, bound in zip(block.split(height), error.split(height), strict=True):
            self._count(part, bound.max(), rows.start, columns.start)
            rows = slice(rows.start + len(part), rows.stop)

    def _count(self, block: Tensor, error: Tensor, first_row: int, first_column: int) -> None:
        exact = self._ascending * self._source.unit
        low, high = (exact * (1 - _ROUNDING) - error).float(), (exact * (1 + _ROUNDING) + error).float()
        low, high = low.nextafter(low.new_tensor(-torch.inf)), high.nextafter(high.new_tensor(torch.inf))
        edges, order = torch.cat([low, high]).sort(stable=True)
        passed = torch.stack([order < len(low), order >= len(low)]).cumsum(1)  # lower and upper edges so far
        passed = torch.cat([passed.new_zeros(2, 1), passed], dim=1)
        doubtful = passed[0] != passed[1]
        interval = torch.bucketize(block, edges, out_int32=True, right=True).flatten()
        found = interval.bincount(minlength=len(edges) + 1).masked_fill(doubtful, 0)
        self._counts.index_add_(1, passed[1], found.expand(2, -1))
        pair = doubtful.index_select(0, interval).nonzero().squeeze(1)
        row, column = pair.div(block.shape[1], rounding_mode="floor"), pair % block.shape[1]
        distance = self._source.exact(row + first_row, column + first_column)
        for count, right in zip(self._counts, (False, True), strict=True):
            place = torch.searchsorted(self._ascending, distance, right=right)
            count += place.bincount(minlength=len(count))

    def curve(self, metric: str) -> RocCurve:
        """The curve, after the last block; thresholds in the metric's unit."""
        closer = self._counts.cumsum(1)[:, :-1].flip(1)  # pairs at most as far as each threshold; pairs closer
        farther, at_least = self._others - closer[0], self._others - closer[1]
        share = at_least.double() / self._others
        rate = self._beyond[self._chosen] / self._beyond[-1].double()
        ahead = [torch.full_like(share[:1], start) for start in (torch.inf, 0, 0)]  # no pair is beyond everything
        thresholds = to_metric(self._values[self._chosen], metric)
        columns = [torch.cat([first, rest]) for first, rest in zip(ahead, (thresholds, rate, share), strict=True)]
        positions = {position: place for place, position in enumerate(self._chosen.tolist())}
        corners = [position for position in positions if self._is_corner(position, positions, farther, at_least)]
        return RocCurve(
            *(column.cpu().numpy() for column in columns),
            tpr_at={asked: self._at(asked, corners, positions, rate, share) for asked in self._rates},
            num_matching_pairs=int(self._beyond[-1]),
            num_other_pairs=self._others,
        )

    def _is_corner(self, position: int, positions: dict[int, int], farther: Tensor, at_least: Tensor) -> bool:
        """Whether the curve turns at this threshold: scikit-learn's, which fast-reid reads, has no points between."""
        here, after = positions[position], positions.get(position + 1)
        if after is None:  # the last threshold of all, or one that no asked rate is near
            return position == len(self._values) - 1
        if position == 0 and farther[here] == 0:
            return True
        tied = at_least - farther
        straight = farther[after] == at_least[here] and tied[after] == tied[here]
        return not (straight and self._multiplicity[position] == self._multiplicity[position + 1])

    def _at(self, asked: float, corners: list[int], positions: dict[int, int], rate: Tensor, share: Tensor) -> float:
        """The true positive rate at the closest false positive rate of the curve; of two, at the smaller."""
        places = [positions[position] for position in corners]
        points = [(0.0, 0.0)] + [(float(rate[place]), float(share[place])) for place in places]
        return min(points, key=lambda point: abs(point[0] - asked))[1]
