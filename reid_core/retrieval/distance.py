"""Squared Euclidean distances between two sets of features: fast by a matrix product, exact by pairs.

`SquaredDistances.exact` is the definition: float64 sums of squared differences of the float32 features, added up in
one fixed order, so that identical features tie exactly. `SquaredDistances.block` is one matrix product in float32 and
`SquaredDistances.error` bounds how far it is from the definition; a search decides by the product wherever that is
certain, and asks `exact` about the few pairs where it is not.
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
_SHOWN = 5  # positions named in an error


def prepare_features(
    features: np.ndarray | Tensor, name: str, metric: str = "euclidean", device: torch.device | str | None = None
) -> Tensor:
    """Features as float32 [N, D] on `device` (None: where they are), of unit length for the cosine; no gradient.

    Raises ValueError for anything but a filled floating-point matrix, for NaN or infinite values and, with metric
    "cosine", for rows of zeros; `name` ("query") stands in the text.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}.")
    if not isinstance(features, Tensor):
        features = np.asarray(features)
        if features.dtype.kind == "f":
            features = torch.from_numpy(np.require(features, np.float32, ["C", "W"]))
    if not isinstance(features, Tensor) or not features.is_floating_point():
        raise ValueError(f"The {name} features must be floating-point numbers, got {features.dtype}.")
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"The {name} features must be a matrix [images, width] with at least one row and column, "
            f"got shape {list(features.shape)}."
        )
    features = features.detach().to(device=device or features.device, dtype=torch.float32).contiguous()
    lengths = torch.cat([sum_by_halves(rows.double().square_()).sqrt() for rows in features.split(_ROWS)])
    _refuse(~lengths.isfinite(), f"{name} features hold NaN or infinite values (as float32)", "Look for a diverged "
            "training run (loss NaN), damaged weights or an overflow in 16-bit arithmetic.")  # fmt: skip
    if metric == "euclidean":
        return features
    _refuse(lengths == 0, f"{name} features are all zero and have no direction", "Look for dead activations or rows "
            "that were never filled.")  # fmt: skip
    unit = torch.empty_like(features)
    for rows, out, length in zip(features.split(_ROWS), unit.split(_ROWS), lengths.split(_ROWS), strict=True):
        out.copy_(rows.double().div_(length[:, None]))
    return unit


class SquaredDistances:
    """Squared Euclidean distances between query [Q, D] and gallery [G, D], both float32 on one device.

    The matrix product works on values shifted to the middle of the gallery and scaled by a power of two, so that
    neither a common offset of all features nor their magnitude costs precision.
    """

    def __init__(self, query: Tensor, gallery: Tensor):
        self.query, self.gallery = query, gallery
        largest = max(float(bound.abs()) for rows in (query, gallery) for bound in rows.aminmax())
        self._scale = 2.0 ** -min(max(math.frexp(largest)[1], -126), 126) if largest else 1.0
        sample = gallery[:: max(1, gallery.shape[0] // 256)]
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
        """Distances in `unit`s by the matrix product, float32 [rows, columns]; rows may be numbers, int64 [R]."""
        dtype = _product_dtype()
        left, right = self._shifted(self.query[rows]).to(dtype), self._shifted(self.gallery[columns]).to(dtype)
        distances = (self._query_norms[rows][:, None] + self._gallery_norms[columns][None, :]).to(dtype)
        for x, y in zip(left.split(_CHUNK, dim=1), right.split(_CHUNK, dim=1), strict=True):
            distances.addmm_(x, y.T, alpha=-2)  # in place: outside the reach of autocast
        return distances.float()

    def error(self, rows: slice | Tensor, columns: slice | None = None) -> Tensor:
        """Largest possible difference between `block` and `exact`, in `unit`s: float32 [rows, columns], or, without
        columns, [rows] for the whole gallery."""
        left, right = self._query_norms[rows].sqrt(), self._gallery_norms.sqrt()
        reach = left + right.max() if columns is None else left[:, None] + right[columns][None, :]
        return reach.square() * self._error + NO_ERROR

    def _shifted(self, features: Tensor) -> Tensor:
        return (features * self._scale).sub_(self._centre)

    def _squared_norms(self, features: Tensor) -> Tensor:
        return torch.cat(
            [sum_by_halves(self._shifted(rows).double().square_()).float() for rows in features.split(_ROWS)]
        )


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
            if not bool(rows.isfinite().all()) or not torch.equal(rows, self._added[:, top : top + _ROWS].T):
                raise ValueError(f"added_distances must be finite and symmetric; look at rows {top} to {top + _ROWS}.")
            self._largest = max(self._largest, float(rows.abs().max()))

    def exact(self, query_index: Tensor, gallery_index: Tensor) -> Tensor:
        added = self._added[query_index.to(self._added.device), gallery_index.to(self._added.device)]
        return super().exact(query_index, gallery_index) + added.to(query_index.device).double()

    def block(self, rows: slice | Tensor, columns: slice) -> Tensor:
        rows_there = rows.to(self._added.device) if isinstance(rows, Tensor) else rows
        added = self._added[rows_there, columns].to(self.query.device, torch.float32)
        return super().block(rows, columns) + added * self.unit

    def error(self, rows: slice | Tensor, columns: slice | None = None) -> Tensor:
        return super().error(rows, columns) * 1.05 + 4 * _ROUNDING * self._largest * self.unit  # of the additions


def sum_by_halves(values: Tensor) -> Tensor:
    """Row sums of [N, D], overwriting it. The order of the additions depends on D alone."""
    width = values.shape[1]
    while width > 1:
        half = (width + 1) // 2
        values[:, : width - half] += values[:, half:width]
        width = half
    return values[:, 0]


def _product_dtype() -> torch.dtype:
    """float32, or float64 where the caller lets torch round float32 products to fewer digits (TF32, bfloat16)."""
    try:
        exact = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by backend (torch >= 2.9): torch then refuses to say what holds for all
        exact = False
    return torch.float32 if exact else torch.float64


def _refuse(bad: Tensor, what: str, advice: str) -> None:
    found = bad.nonzero().flatten()
    if len(found):
        more = ", ..." if len(found) > _SHOWN else ""
        where = f"first at position {', '.join(map(str, found[:_SHOWN].tolist()))}{more}"
        raise ValueError(f"{len(found)} of {len(bad)} {what}; {where}. {advice}")
