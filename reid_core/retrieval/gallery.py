"""What the searchable galleries share: checked rows, filters, results, and the exact end of a search in float32."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

UNKNOWN_CAMERA = -1
SPARE = 8
"""Candidates that an exact search asks for beyond the k: room for those that rounding puts in another order."""

_ROUNDING = 2.0**-24  # unit roundoff of float32
_CELL_BYTES = 32 * 2**20  # of candidates while their exact distances are computed
_SHOWN = 5  # ids named in an error


class SearchResult(NamedTuple):
    """The nearest gallery images of each query, nearest first, equal distances by id.

    distances: float32 [Q, k], Euclidean, or 1 - cosine. ids, camids: int64 [Q, k]. timestamps: float64 [Q, k].
    Where fewer than k images pass the filters, the row ends with distance infinity, id -1, camid -1, timestamp NaN.
    """

    distances: np.ndarray
    ids: np.ndarray
    camids: np.ndarray
    timestamps: np.ndarray


class Rows(NamedTuple):
    """What stands beside the features of a gallery: ids int64 [N], camids int64 [N], timestamps float64 [N]."""

    ids: np.ndarray
    camids: np.ndarray
    timestamps: np.ndarray


@dataclass(frozen=True)
class GalleryFilter:
    """Which images of a gallery a search may return.

    only_camids, exclude_camids: cameras; an image of unknown camera fails the first and passes the second.
    time_range: (first, last), both included, None for an open end; an image of unknown time fails any time range.
    Raises ValueError for negative cameras and for a range that ends before it begins.
    """

    only_camids: tuple[int, ...] | None = None
    exclude_camids: tuple[int, ...] = ()
    time_range: tuple[float | None, float | None] | None = None

    @classmethod
    def of(
        cls,
        only_camids: Collection[int] | None,
        exclude_camids: Collection[int] | None,
        time_range: tuple[float | None, float | None] | None,
    ) -> "GalleryFilter":
        """From the arguments of a search."""
        only = None if only_camids is None else tuple(int(camid) for camid in only_camids)
        exclude = tuple(int(camid) for camid in exclude_camids or ())
        for camid in (*(only or ()), *exclude):
            if camid < 0:
                raise ValueError(f"Cameras of a filter must not be negative, got {camid}; -1 stands for unknown.")
        if time_range is not None:
            first, last = time_range
            if any(end is not None and np.isnan(end) for end in time_range) or (
                first is not None and last is not None and first > last
            ):
                raise ValueError(f"time_range must be (first, last) with first <= last, got {time_range}.")
        return cls(only, exclude, time_range)

    def without(self, camid: int) -> "GalleryFilter":
        """The same, and not this camera; an unknown one (-1) leaves nothing out."""
        if camid == UNKNOWN_CAMERA:
            return self
        return GalleryFilter(self.only_camids, (*self.exclude_camids, int(camid)), self.time_range)

    @property
    def passes_all(self) -> bool:
        """Whether it is no filter."""
        return self == GalleryFilter()

    def mask(self, camids: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
        """Which images pass: bool [N]. camids: int64 [N]. timestamps: float64 [N]."""
        passing = np.ones(len(camids), dtype=bool)
        if self.only_camids is not None:
            passing &= np.isin(camids, self.only_camids)
        if self.exclude_camids:
            passing &= ~np.isin(camids, self.exclude_camids)
        if self.time_range is not None:
            first, last = self.time_range
            passing &= ~np.isnan(timestamps)
            passing &= (timestamps >= first) if first is not None else True
            passing &= (timestamps <= last) if last is not None else True
        return passing


def check_rows(
    count: int,
    ids: np.ndarray | Tensor,
    camids: np.ndarray | Tensor | None,
    timestamps: np.ndarray | Tensor | None,
) -> Rows:
    """The columns of `count` new images, cameras and times unknown (-1, NaN) where none are given.

    Raises ValueError for another length or type, ids that are negative or occur twice, cameras below -1 and
    infinite times.
    """
    ids = check_ids(ids)
    if camids is None:
        camids = np.full(count, UNKNOWN_CAMERA, dtype=np.int64)
    if timestamps is None:
        timestamps = np.full(count, np.nan)
    rows = Rows(ids, as_integers(camids, "camids"), np.array(timestamps, dtype=np.float64))
    for name, column in rows._asdict().items():
        if column.shape != (count,):
            raise ValueError(f"{name} must have one entry for each of the {count} features, got {list(column.shape)}.")
    if (rows.camids < UNKNOWN_CAMERA).any():
        raise ValueError(f"camids must be at least 0, or -1 for unknown; got {rows.camids.min()}.")
    if np.isinf(rows.timestamps).any():
        raise ValueError("timestamps must be finite numbers, or NaN for unknown; got infinity.")
    return rows


def check_ids(ids: np.ndarray | Tensor) -> np.ndarray:
    """Ids as int64 [N]. Raises ValueError for other than whole numbers of at least 0, or an id that occurs twice."""
    ids = as_integers(ids, "ids")
    if ids.ndim == 1 and len(ids) and ids.min() < 0:
        raise ValueError(f"ids must be at least 0 (-1 marks an empty place in results), got {ids.min()}.")
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < ids.size:
        raise ValueError(f"ids occur twice in one call: {some(values[counts > 1])}.")
    return ids


def check_query_camids(camids: np.ndarray | Tensor | None, count: int) -> np.ndarray:
    """Each query's own camera, int64 [Q]; -1 (unknown) for all if None."""
    if camids is None:
        return np.full(count, UNKNOWN_CAMERA, dtype=np.int64)
    camids = as_integers(camids, "camids")
    if camids.shape != (count,):
        raise ValueError(f"camids must have one entry for each of the {count} queries, got {list(camids.shape)}.")
    return camids


def check_k(k: int) -> None:
    """Raise ValueError for a k that is no positive whole number."""
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k must be a whole number of at least 1, got {k!r}.")


def as_integers(values: np.ndarray | Tensor, name: str) -> np.ndarray:
    """Whole numbers as a new int64 array. Raises ValueError for other types and for numbers beyond int64."""
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or (array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max):
        raise ValueError(f"{name} must be whole numbers that fit int64, got {array.dtype}.")
    return array.astype(np.int64)


def some(ids: np.ndarray) -> str:
    """The first few of many ids, for an error's text."""
    return ", ".join(map(str, ids[:_SHOWN].tolist())) + (", ..." if len(ids) > _SHOWN else "")


def empty_result(queries: int, k: int) -> SearchResult:
    """A result without any hit, to be filled."""
    shape = (queries, k)
    return SearchResult(
        np.full(shape, np.inf, np.float32), np.full(shape, -1), np.full(shape, UNKNOWN_CAMERA), np.full(shape, np.nan)
    )


def distances_of(squared: np.ndarray, metric: str) -> np.ndarray:
    """Squared Euclidean distances of prepared features as the metric's own, float32: the root, or 1 - cosine."""
    squared = np.maximum(squared, 0)
    return (squared / 2 if metric == "cosine" else np.sqrt(squared)).astype(np.float32)


def exact_nearest(
    features: np.ndarray,
    k: int,
    candidates: int,
    fetch: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]],
    rows_of: Callable[[np.ndarray], np.ndarray],
    ids_of: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The exact k nearest from searches whose float32 distances are rounded: (squared float64, labels int64) [Q, k].

    `fetch(queries, count)` gives the squared distances and labels [len(queries), count] of the `count` nearest of
    some queries (their numbers), nearest first; `rows_of(labels)` the float32 rows and `ids_of(labels)` the ids that
    go with labels. More and more are fetched until the nearest left out is farther than the k-th by more than the
    rounding of a float32 sum; distances of the pairs in float64 and, where equal, the ids decide the order.

    features: float32 [Q, D]. candidates: how many can be found at all, at least k.
    """
    squared, labels = np.empty((len(features), k)), np.empty((len(features), k), dtype=np.int64)
    norms = np.linalg.norm(features, axis=1)
    open_queries, count = np.arange(len(features)), min(k + SPARE, candidates)
    while len(open_queries):
        uncertain = []
        step = max(1, _CELL_BYTES // (12 * count * features.shape[1]))
        for start in range(0, len(open_queries), step):
            queries = open_queries[start : start + step]
            rounded, found = fetch(queries, count)
            exact, reach = _squared_distances(features[queries], rows_of(found.ravel()), norms[queries])
            order = np.lexsort((ids_of(found.ravel()).reshape(found.shape), exact), axis=1)[:, :k]
            squared[queries] = np.take_along_axis(exact, order, axis=1)
            labels[queries] = np.take_along_axis(found, order, axis=1)
            if count < candidates:
                error = reach * (np.sqrt(features.shape[1]) + 8) * _ROUNDING
                uncertain.append(queries[rounded[:, -1] - error <= squared[queries, -1]])
        open_queries = np.concatenate(uncertain) if uncertain else np.empty(0, dtype=np.int64)
        count = min(4 * count, candidates)
    return squared, labels


def _squared_distances(queries: np.ndarray, rows: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact squared distances float64 [Q, C] of queries [Q, D] to their rows [Q * C, D], and the scale of their
    rounding errors in a search, (|query| + |farthest row|)^2 [Q]."""
    rows = rows.reshape(len(queries), -1, queries.shape[1])
    exact = np.square(queries[:, None].astype(np.float64) - rows).sum(axis=2)
    reach = 2 * norms + np.sqrt(exact.max(axis=1))
    return exact, np.square(reach)
