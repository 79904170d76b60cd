"""How far apart the features set identities: distances of random pairs."""

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.labelled import IdentityIndex, label
from reid_core.retrieval.distance import SquaredDistances, as_features, to_metric

_QUERIES = 1000  # at most; their pairs are listed before some are drawn


@torch.no_grad()
def sample_distances(
    query: np.ndarray | Tensor,
    gallery: np.ndarray | Tensor,
    query_pids: np.ndarray | Tensor,
    gallery_pids: np.ndarray | Tensor,
    query_camids: np.ndarray | Tensor,
    gallery_camids: np.ndarray | Tensor,
    *,
    metric: str = "euclidean",
    normalize: bool = False,
    camera_rule: bool = True,
    count: int = 10_000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of up to `count` random pairs of one identity (another camera), and of different identities.

    Arguments as in `ranking.evaluate`; without the camera rule the pairs of one identity may be of one camera.
    Returns float64 arrays in the metric's unit, both empty at worst. The pairs of one identity are those of at most
    1000 random queries; the same `seed` draws the same pairs.
    """
    queries = label(as_features(query, "query"), query_pids, query_camids, "query", metric, normalize)
    images = label(as_features(gallery, "gallery"), gallery_pids, gallery_camids, "gallery", metric, normalize)
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(queries.pids), dtype=bool)
    chosen[generator.permutation(len(chosen))[:_QUERIES]] = True
    some = queries.keep(torch.from_numpy(chosen).to(queries.pids.device))
    pairs = IdentityIndex(some, images, camera_rule).pairs(slice(0, len(some.pids)))
    same = np.flatnonzero(~pairs.same_camera.cpu().numpy())
    same = torch.from_numpy(np.sort(generator.permutation(same)[:count])).to(some.pids.device)
    left = torch.from_numpy(generator.integers(0, len(some.pids), count)).to(some.pids.device)
    right = torch.from_numpy(generator.integers(0, len(images.pids), count)).to(some.pids.device)
    differ = some.pids[left] != images.pids[right]
    source = SquaredDistances(some.features, images.features)
    drawn = source.exact(pairs.query[same], pairs.gallery[same]), source.exact(left[differ], right[differ])
    return tuple(to_metric(squared, metric).cpu().numpy() for squared in drawn)
