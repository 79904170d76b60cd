"""The interface of the searchable galleries, and the checks that they share."""

from abc import ABC, abstractmethod
from collections.abc import Collection

import numpy as np
from torch import Tensor

from reid_core.retrieval.distance import METRICS, prepare_features
from reid_core.retrieval.gallery import (
    GalleryFilter,
    Rows,
    SearchResult,
    check_ids,
    check_k,
    check_query_camids,
    check_rows,
    some,
)


class SearchableGallery(ABC):
    """Features with ids, cameras and times of the caller's choosing; a subclass says where they are kept.

    width: of the features. metric: "cosine" (features are scaled to unit length; distances 1 - cosine) or "euclidean".
    """

    place = "gallery"
    """What errors call it."""

    def __init__(self, width: int, metric: str):
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(sorted(METRICS))}, got {metric!r}.")
        self.width, self.metric = int(width), metric

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def ids(self) -> np.ndarray:
        """Ids of all images, int64 [N], ascending."""

    def add(
        self,
        features: np.ndarray | Tensor,
        ids: np.ndarray | Tensor,
        camids: np.ndarray | Tensor | None = None,
        timestamps: np.ndarray | Tensor | None = None,
    ) -> None:
        """Add images. A `GalleryIndex` that needs training and has had none is trained on a sample of these.

        features: floating point [N, D]. ids: int64 [N], at least 0, not in the gallery yet. camids: [N], -1 or None:
        unknown. timestamps: float [N], seconds from a point of the caller's choosing, NaN or None: unknown.
        Raises ValueError, with nothing added, for ids that are there already or twice, for NaN, infinite or (cosine)
        zero features, for shapes that do not fit, and for too few features to train on.
        """
        prepared = self._prepare(features, "gallery")
        self._add(prepared, check_rows(len(prepared), ids, camids, timestamps))

    def remove(self, ids: np.ndarray | Tensor) -> None:
        """Remove images. Raises ValueError, with nothing removed, for ids that are not there or twice."""
        self._remove(check_ids(ids))

    def search(
        self,
        features: np.ndarray | Tensor,
        k: int,
        *,
        camids: np.ndarray | Tensor | None = None,
        only_camids: Collection[int] | None = None,
        exclude_camids: Collection[int] | None = None,
        time_range: tuple[float | None, float | None] | None = None,
    ) -> SearchResult:
        """The k nearest images of each query among those that pass all filters; see `SearchResult`.

        features: floating point [Q, D]. camids: int64 [Q], each query's own camera, whose images it does not get
        (the same-camera rule; -1: unknown, leaves none out). only_camids, exclude_camids, time_range: as in
        `GalleryFilter`, for all queries. Raises ValueError for what does not fit and for NaN, infinite or (cosine)
        zero features.
        """
        check_k(k)
        prepared = self._prepare(features, "query")
        common = GalleryFilter.of(only_camids, exclude_camids, time_range)
        return self._search(prepared, k, check_query_camids(camids, len(prepared)), common)

    @abstractmethod
    def _add(self, features: np.ndarray, rows: Rows) -> None:
        """Add checked images, or raise ValueError by `_refuse_known`."""

    @abstractmethod
    def _remove(self, ids: np.ndarray) -> None:
        """Remove images, each named once, or raise ValueError by `_refuse_unknown`."""

    @abstractmethod
    def _search(self, features: np.ndarray, k: int, camids: np.ndarray, common: GalleryFilter) -> SearchResult:
        """The nearest images of checked queries; each is filtered by `common` without its own camera."""

    def _prepare(self, features: np.ndarray | Tensor, name: str) -> np.ndarray:
        """Checked rows, of unit length for the cosine: float32 [N, width]."""
        prepared = prepare_features(features, name, self.metric, "cpu").numpy()
        if prepared.shape[1] != self.width:
            raise ValueError(f"The {name} features have width {prepared.shape[1]}, the {self.place} {self.width}.")
        return prepared

    def _refuse_known(self, known: np.ndarray) -> None:
        if len(known):
            raise ValueError(f"{len(known)} ids are in the {self.place} already: {some(known)}. Remove them first.")

    def _refuse_unknown(self, unknown: np.ndarray) -> None:
        if len(unknown):
            raise ValueError(f"{len(unknown)} ids are not in the {self.place}: {some(unknown)}.")
