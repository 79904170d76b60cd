"""One side of a ranking: features with the identity and camera of each image, junk left out."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_core.retrieval.distance import as_features, prepare_rows
from reid_core.retrieval.neighbours import check_widths

JUNK = -1  # identity of images that are never read


class LabelledFeatures(NamedTuple):
    """features float32 [N, D]; pids, camids int64 [N]; positions int64 [N]: row numbers before any was dropped."""

    features: Tensor
    pids: Tensor
    camids: Tensor
    positions: Tensor

    def keep(self, wanted: Tensor) -> "LabelledFeatures":
        """The rows where `wanted`, bool [N], is set; the features are not copied if that is all of them."""
        if bool(wanted.all()):
            return self
        return LabelledFeatures(*(column[wanted] for column in self))


class SameIdentity(NamedTuple):
    """Pairs of a query and a gallery image of its identity: int64 [P] row numbers, by query, then by gallery; and
    bool [P]: whether they come from one camera, which makes no match (never set without the camera rule)."""

    query: Tensor
    gallery: Tensor
    same_camera: Tensor


def label(
    features: Tensor, pids: np.ndarray | Tensor, camids: np.ndarray | Tensor, name: str, metric: str, normalize: bool
) -> LabelledFeatures:
    """Checked, prepared features with their labels; rows of identity -1 are dropped before anything reads them.

    Raises ValueError, naming the side (`name`: "query" or "gallery"), for labels that are not one whole number an
    image, for a side that is all junk, and for features that cannot be scored.
    """
    kept = _without_junk(features, pids, camids, name, "feature rows")
    return kept._replace(features=prepare_rows(kept.features, name, metric, normalize, kept.positions))


def label_images(
    pids: np.ndarray | Tensor, camids: np.ndarray | Tensor | None, name: str, device: torch.device | str | None
) -> LabelledFeatures:
    """Labels without features (which have width 0), junk dropped, on `device` (None: the CPU); all images are of
    camera 0 without camera numbers. Raises ValueError as `label`."""
    nothing = torch.empty(len(pids), 0, device=device)
    return _without_junk(nothing, pids, [0] * len(pids) if camids is None else camids, name, "identities")


def require_cameras(query_camids: np.ndarray | Tensor | None, gallery_camids: np.ndarray | Tensor | None) -> None:
    """Raise ValueError if the cameras of a side are missing."""
    if query_camids is None or gallery_camids is None:
        raise ValueError(
            "The camera numbers of query or gallery are missing. Without them images can only be ranked with "
            "camera_rule=False, which leaves none out, and without results by pair of cameras."
        )


def label_sides(
    query: np.ndarray | Tensor,
    gallery: np.ndarray | Tensor,
    query_pids: np.ndarray | Tensor,
    gallery_pids: np.ndarray | Tensor,
    query_camids: np.ndarray | Tensor | None,
    gallery_camids: np.ndarray | Tensor | None,
    *,
    metric: str,
    normalize: bool,
    device: torch.device | str | None = None,
) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Query and gallery as `label` makes them, on `device` (None: where `query` is); see `ranking.evaluate`.

    Without camera numbers all images are of camera 0.

    Raises ValueError for what `as_features` and `label` refuse, and for sides of different widths.
    """
    query = as_features(query, "query", device)
    gallery = as_features(gallery, "gallery", query.device)
    check_widths(query, gallery)
    query_camids = np.zeros(len(query), dtype=np.int64) if query_camids is None else query_camids
    gallery_camids = np.zeros(len(gallery), dtype=np.int64) if gallery_camids is None else gallery_camids
    return (
        label(query, query_pids, query_camids, "query", metric, normalize),
        label(gallery, gallery_pids, gallery_camids, "gallery", metric, normalize),
    )


class IdentityIndex:
    """Finds the gallery images of a query's identity. camera_rule: those from its own camera are no matches."""

    def __init__(self, query: LabelledFeatures, gallery: LabelledFeatures, camera_rule: bool = True):
        self._query, self._gallery, self._camera_rule = query, gallery, camera_rule
        self._order = gallery.pids.argsort(stable=True)
        self._sorted_pids = gallery.pids[self._order]

    def pairs(self, rows: slice) -> SameIdentity:
        """All pairs of the queries `rows` (counted from the slice's start) and gallery images of their identity."""
        pids, camids = self._query.pids[rows], self._query.camids[rows]
        first = torch.searchsorted(self._sorted_pids, pids)
        counts = torch.searchsorted(self._sorted_pids, pids, right=True) - first
        query = torch.arange(len(pids), device=pids.device).repeat_interleave(counts)
        within = torch.arange(len(query), device=pids.device) - (counts.cumsum(0) - counts)[query]
        gallery = self._order[first[query] + within]
        return SameIdentity(query, gallery, (self._gallery.camids[gallery] == camids[query]) & self._camera_rule)

    def count(self) -> tuple[Tensor, Tensor]:
        """Of each query, the number of gallery images of its identity, and of true matches among them."""
        query, gallery = self._query, self._gallery
        total = _count_equal(query.pids, gallery.pids)
        if not self._camera_rule:
            return total, total
        _, cameras = torch.cat([query.camids, gallery.camids]).unique(return_inverse=True)
        _, pids = torch.cat([query.pids, gallery.pids]).unique(return_inverse=True)
        both = pids * (cameras.max() + 1) + cameras
        split = len(query.pids)
        return total, total - _count_equal(both[:split], both[split:])


def _count_equal(values: Tensor, among: Tensor) -> Tensor:
    among = among.sort().values
    return torch.searchsorted(among, values, right=True) - torch.searchsorted(among, values)


def _without_junk(
    features: Tensor, pids: np.ndarray | Tensor, camids: np.ndarray | Tensor, name: str, counted: str
) -> LabelledFeatures:
    pids = _whole_numbers(pids, features, f"{name} pids", counted)
    camids = _whole_numbers(camids, features, f"{name} camids", counted)
    everything = LabelledFeatures(features, pids, camids, torch.arange(len(pids), device=pids.device))
    kept = everything.keep(pids != JUNK)
    if not len(kept.pids):
        raise ValueError(f"All {len(pids)} {name} images have identity {JUNK} (junk): there is nothing to rank.")
    return kept


def _whole_numbers(values: np.ndarray | Tensor, features: Tensor, name: str, counted: str) -> Tensor:
    numbers = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if numbers.dtype.kind not in "iu":
        raise ValueError(f"The {name} must be whole numbers, got {numbers.dtype}.")
    if numbers.shape != (len(features),):
        raise ValueError(
            f"The {name} have shape {list(numbers.shape)}, but there are {len(features)} {counted}: one for each."
        )
    return torch.from_numpy(numbers.astype(np.int64)).to(features.device)
