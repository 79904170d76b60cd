"""Squared Euclidean distances between two sets of features: fast by a matrix product, exact by pairs.

`SquaredDistances.exact` is the definition: float64 sums of squared differences of the float32 features, added up in
one fixed order. It depends on the two rows alone, so identical features tie exactly, whatever the block size, the
number of threads or the device. `SquaredDistances.block` is one matrix product in float32 and `SquaredDistances.error`
bounds how far it is from the definition; a caller decides by the product wherever that is certain, and asks `exact`
about the few pairs where it is not. Rankings, neighbour lists and re-ranking all read their distances here.
"""

import math

import numpy as np
import torch
from torch import Tensor

METRICS = ("euclidean", "cosine")
NO_ERROR = 1e-30  # `SquaredDistances.error` where the product is exact; otherwise added: products too small for float32

_ROUNDING = 2.0**-24  # unit roundoff of float32
_CHUNK = 128  # widths multiplied at a time: the rounding error of a dot product grows with its length
_ROWS = 128  # rows subtracted at a time: they stay in the processor's cache
_SAMPLE = 256  # rows that the centre is taken from
_SHOWN = 5  # positions named in an error


def prepare_features(
    features: np.ndarray | Tensor, name: str, metric: str = "euclidean", device: torch.device | str | None = None
) -> Tensor:
    """Features as float32 [N, D] on `device` (None: where they are), of unit length for the cosine; no gradient.

    Raises ValueError for anything but a filled floating-point matrix, for NaN or infinite values and, with metric
    "cosine", for rows of zeros; `name` ("query") stands in the text.
    """
    return prepare_rows(as_features(features, name, device), name, metric)


def prepare_rows(
    features: Tensor, name: str, metric: str, normalize: bool = False, positions: Tensor | None = None
) -> Tensor:
    """Checked rows [N, D] whose squared Euclidean distances give the metric's ranking: of unit length for the cosine,
    and with `normalize`. Raises ValueError as `check_finite` and `normalise_rows`, and for an unknown metric."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}.")
    check_finite(features, name, positions)
    return normalise_rows(features, name, positions) if normalize or metric == "cosine" else features


def as_features(features: np.ndarray | Tensor, name: str, device: torch.device | str | None = None) -> Tensor:
    """Features as a contiguous float32 tensor [N, D] on `device` (None: where they are; arrays: CPU), no gradient.

    Raises ValueError for anything but a filled floating-point matrix; `name` ("query") stands in the text.
    """
    if not isinstance(features, Tensor):
        features = np.asarray(features)
        if features.dtype.kind == "f":
            features = np.require(features, features.dtype.newbyteorder("="), ["C", "W"])
            features = torch.from_numpy(features.astype(np.float32) if features.itemsize > 8 else features)
    if not isinstance(features, Tensor) or not features.is_floating_point():
        raise ValueError(f"The {name} features must be floating-point numbers, got {features.dtype}.")
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"The {name} features must be a matrix [images, width] with at least one row and column, "
            f"got shape {list(features.shape)}."
        )
    return features.detach().to(device=device or features.device, dtype=torch.float32).contiguous()


def check_finite(features: Tensor, name: str, positions: Tensor | None = None) -> None:
    """Raise ValueError if a row of features [N, D] holds NaN or infinity; it counts them and names the first.

    positions: int64 [N], the rows' numbers in what the user passed; None: 0..N-1.
    """
    if all(bool(bound.isfinite()) for bound in features.aminmax()):  # a tenth of the time of looking at every row
        return
    bad = torch.empty(len(features), dtype=torch.bool, device=features.device)
    for rows, out in zip(features.split(_ROWS), bad.split(_ROWS), strict=True):
        out.copy_(~torch.isfinite(rows).all(dim=1))
    advice = "Look for a diverged training run (loss NaN), damaged weights or an overflow in 16-bit arithmetic."
    _refuse(bad, positions, f"{name} features hold NaN or infinite values (as float32)", advice)


def normalise_rows(features: Tensor, name: str, positions: Tensor | None = None) -> Tensor:
    """Rows [N, D] float32 scaled to unit Euclidean length (computed in float64).

    Raises ValueError for rows of zeros, which have no direction; `name` and `positions` as in `check_finite`.
    """
    unit, lengths = torch.empty_like(features), torch.empty(len(features), dtype=torch.float64, device=features.device)
    parts = zip(features.split(_ROWS), unit.split(_ROWS), lengths.split(_ROWS), strict=True)
    for rows, out, length in parts:
        rows = rows.double()
        length.copy_(sum_by_halves(rows.square())).sqrt_()
        out.copy_(rows.div_(length[:, None]))
    advice = (
        "Look for dead activations or rows that were never filled; or match with metric='euclidean', normalize=False."
    )
    _refuse(lengths == 0, positions, f"{name} features are all zero and cannot be scaled to unit length", advice)
    return unit


def to_metric(squared: Tensor, metric: str) -> Tensor:
    """Squared Euclidean distances of prepared features as the metric's own: the root, or 1 - cosine."""
    return squared / 2 if metric == "cosine" else squared.sqrt()


class SquaredDistances:
    """Squared Euclidean distances between query [Q, D] and gallery [G, D], both float32 on one device.

    The matrix product works on values shifted to the middle of the gallery and scaled by a power of two, so that
    neither a common offset of all features nor their magnitude costs precision.

    reuse_blocks: each `block` is written over by the next one; fresh memory for all costs a tenth of the time.
    """

    def __init__(self, query: Tensor, gallery: Tensor, reuse_blocks: bool = False):
        self.query, self.gallery = query, gallery
        self._buffers: dict[str, Tensor] | None = {} if reuse_blocks else None
        self._shifted_rows: slice | None = None
        largest = max(float(bound.abs()) for rows in (query, gallery) for bound in rows.aminmax())
        self._scale = 2.0 ** -min(max(math.frexp(largest)[1], -126), 126) if largest else 1.0
        sample = gallery[:: max(1, gallery.shape[0] // _SAMPLE)]
        # Any centre will do. The median ignores outliers (by sorting: torch.median is not deterministic on CUDA).
        self._centre = sample.sort(dim=0).values[len(sample) // 2] * self._scale
        self._query_norms = self._squared_norms(query)
        self._gallery_norms = self._query_norms if gallery is query else self._squared_norms(gallery)
        chunks = math.ceil(query.shape[1] / _CHUNK)
        # In units of (|x| + |y|)^2 / 2^24: half of _CHUNK for the two factors of each product of 2 x.y in a chunk,
        # one per addition of a chunk, and 8 for shifting, for rounding the norms and their sum, and for the bound.
        self._error = (_CHUNK / 2 + chunks + 8) * _ROUNDING

    @property
    def unit(self) -> float:
        """Factor from exact distances to those of `block` and `error`, a power of two."""
        return self._scale**2

    def exact(self, query_index: Tensor, gallery_index: Tensor) -> Tensor:
        """Distances of the pairs (query_index[i], gallery_index[i]), int64 [N] -> float64 [N]."""
        found = torch.empty(query_index.shape[0], dtype=torch.float64, device=query_index.device)
        rows = _ROWS if found.device.type == "cpu" else 64 * _ROWS
        for left, right, out in zip(query_index.split(rows), gallery_index.split(rows), found.split(rows), strict=True):
            difference = self.query.index_select(0, left).double().sub_(self.gallery.index_select(0, right))
            out.copy_(sum_by_halves(difference.square_()))
        return found

    def block(self, rows: slice | Tensor, columns: slice) -> Tensor:
        """Distances in `unit`s by the matrix product, float32 [rows, columns], the caller's to change; rows may be
        numbers, int64 [R]."""
        dtype = _product_dtype()
        left, right = self._left(rows).to(dtype), self._shifted(self.gallery[columns], "gallery").to(dtype)
        distances = self._memory("block", len(left), len(right))
        torch.add(self._query_norms[rows][:, None], self._gallery_norms[columns][None, :], out=distances)
        distances = distances.to(dtype)
        for x, y in zip(left.split(_CHUNK, dim=1), right.split(_CHUNK, dim=1), strict=True):
            distances.addmm_(x, y.T, alpha=-2)  # in place: outside the reach of autocast
        return distances.float()

    def error(self, rows: slice | Tensor, columns: slice | None = None) -> Tensor:
        """Largest possible difference between `block` and `exact`, in `unit`s: float32 [rows, columns], or, without
        columns, [rows] for the whole gallery."""
        if columns is None:
            return self.row_error(rows, slice(None))
        return self._error_at(self._query_norms[rows].sqrt()[:, None] + self._gallery_norms[columns].sqrt()[None, :])

    def row_error(self, rows: slice | Tensor, columns: slice) -> Tensor:
        """The largest `error` of each row of a block, float32 [rows]."""
        return self._error_at(self._query_norms[rows].sqrt() + self._gallery_norms[columns].max().sqrt())

    def _error_at(self, reach: Tensor) -> Tensor:
        return reach.square() * self._error + NO_ERROR

    def _left(self, rows: slice | Tensor) -> Tensor:
        """The shifted queries; kept from one block to the next where memory is kept."""
        if self._buffers is None or not isinstance(rows, slice):
            return self._shifted(self.query[rows], "some queries")
        if rows != self._shifted_rows:
            self._shifted(self.query[rows], "query")
            self._shifted_rows = rows
        return self._memory("query", *self.query[rows].shape)

    def _shifted(self, features: Tensor, name: str) -> Tensor:
        """In the memory `name`."""
        return torch.mul(features, self._scale, out=self._memory(name, *features.shape)).sub_(self._centre)

    def _memory(self, name: str, height: int, width: int) -> Tensor:
        """Room for float32 [height, width]: fresh, or the same for each `name` until it is asked for again."""
        if self._buffers is None:
            return self.query.new_empty(height, width)
        found = self._buffers.get(name)
        if found is None or found.numel() < height * width:
            found = self._buffers[name] = self.query.new_empty(height * width)
        return found[: height * width].view(height, width)

    def _squared_norms(self, features: Tensor) -> Tensor:
        norms = features.new_empty(len(features))
        for rows, out in zip(features.split(_ROWS), norms.split(_ROWS), strict=True):
            out.copy_(sum_by_halves(self._shifted(rows, "norms").double().square_()))
        return norms


class AddedDistances(SquaredDistances):
    """Squared distances within one set plus further symmetric ones, [N, N] of any floating-point precision.

    Raises ValueError for a matrix that is not [N, N], not symmetric, or not finite.
    """

    def __init__(self, features: Tensor, added: np.ndarray | Tensor):
        super().__init__(features, features)
        count = len(features)
        if tuple(added.shape) != (count, count):
            raise ValueError(f"added_distances must be [{count}, {count}], queries first, got {list(added.shape)}.")
        self._added = torch.as_tensor(added)
        self._largest = 0.0
        for top in range(0, count, _ROWS):
            rows = self._added[top : top + _ROWS]
            if not bool(rows.float().isfinite().all()) or not torch.equal(rows, self._added[:, top : top + _ROWS].T):
                raise ValueError(
                    f"added_distances must be finite (as float32) and symmetric; look at rows {top} to {top + _ROWS}."
                )
            self._largest = max(self._largest, float(rows.abs().max()))

    def exact(self, query_index: Tensor, gallery_index: Tensor) -> Tensor:
        added = self._added[query_index.to(self._added.device), gallery_index.to(self._added.device)]
        return super().exact(query_index, gallery_index) + added.to(query_index.device).double()

    def block(self, rows: slice | Tensor, columns: slice) -> Tensor:
        rows_there = rows.to(self._added.device) if isinstance(rows, Tensor) else rows
        added = self._added[rows_there, columns].to(self.query.device, torch.float32)
        return super().block(rows, columns) + added * self.unit

    def _error_at(self, reach: Tensor) -> Tensor:
        return super()._error_at(reach) * 1.05 + 4 * _ROUNDING * self._largest * self.unit  # of the additions


def _product_dtype() -> torch.dtype:
    """float32, or float64 where the caller lets torch round float32 products to fewer digits (TF32, bfloat16)."""
    try:
        exact = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by backend (torch >= 2.9): torch then refuses to say what holds for all
        exact = False
    return torch.float32 if exact else torch.float64


def sum_by_halves(values: Tensor) -> Tensor:
    """Row sums of [N, D]: a view into it, overwriting it. The order of the additions depends on D alone, not on N,
    the number of threads or the device."""
    width = values.shape[1]
    while width > 1:
        half = (width + 1) // 2
        values[:, : width - half] += values[:, half:width]
        width = half
    return values[:, 0]


def _refuse(bad: Tensor, positions: Tensor | None, what: str, advice: str) -> None:
    found = bad.nonzero().flatten()
    if not len(found):
        return
    shown = found[:_SHOWN] if positions is None else positions.to(found.device)[found[:_SHOWN]]
    more = ", ..." if len(found) > _SHOWN else ""
    where = f"first at position {', '.join(map(str, shown.tolist()))}{more}"
    raise ValueError(f"{len(found)} of {len(bad)} {what}; {where}. {advice}")
