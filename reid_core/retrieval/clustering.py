"""Pseudo labels: DBSCAN on the Jaccard distances of k-reciprocal codes, both as sparse matrices."""

import numpy as np
import torch
from scipy import sparse
from sklearn.cluster import DBSCAN
from sklearn.neighbors import sort_graph_by_row_values
from torch import Tensor

from reid_core.retrieval.distance import SquaredDistances, prepare_features
from reid_core.retrieval.k_reciprocal import encode, jaccard_distance, overlap_blocks
from reid_core.retrieval.neighbours import search


def pseudo_labels(
    features: np.ndarray | Tensor,
    eps: float,
    min_samples: int = 4,
    k1: int = 30,
    k2: int = 6,
    *,
    device: torch.device | str | None = None,
    block_bytes: int = 64 * 2**20,
) -> np.ndarray:
    """Cluster numbers of the images, int64 [N]: 0, 1, ... in the order of each cluster's first core image, -1 for
    outliers.

    An image with min_samples images within Jaccard distance eps, itself included, is a core image of its cluster
    (Ester et al., KDD 1996). The other arguments, memory and what is raised: see `jaccard_neighbours`.
    Raises ValueError also for min_samples below 1.
    """
    if min_samples < 1:
        raise ValueError(f"min_samples must be positive, got {min_samples}.")
    graph = jaccard_neighbours(features, eps, k1, k2, device=device, block_bytes=block_bytes)
    graph = sort_graph_by_row_values(graph, copy=False, warn_when_not_sorted=False)  # or it is copied, with a warning
    clustering = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(graph)
    return clustering.labels_.astype(np.int64)


@torch.no_grad()
def jaccard_neighbours(
    features: np.ndarray | Tensor,
    eps: float,
    k1: int = 30,
    k2: int = 6,
    *,
    device: torch.device | str | None = None,
    block_bytes: int = 64 * 2**20,
) -> sparse.csr_matrix:
    """Jaccard distances of all pairs of images that are at most eps apart: float32 CSR [N, N].

    Distance 0 (an image and itself, and its copies) is a stored entry; what is not stored is more than eps.
    features [N, D]: floating point, scaled to unit length here. eps: in (0, 1). k1: nearest images, itself included,
    whose lists must be reciprocal; k2: nearest over which codes are averaged, 1 for none. Both are cut to N, and k2
    to k1: there are k1 neighbours. device: for the neighbours; None: where `features` are.
    block_bytes: working memory (about; at least what one row takes). Beside it are held a float32 copy of the
    features, the neighbour lists (24 bytes * N * (k1 + 8)), the sparse codes and their transpose (16 bytes an entry;
    an image has some 100 at k1 30, k2 6) and the result (8 bytes a pair).

    Raises ValueError for numbers out of range, NaN or infinite features and rows of zeros.
    """
    if min(k1, k2) < 1 or not 0 < eps < 1:
        raise ValueError(f"k1 and k2 must be positive and eps in (0, 1), got k1={k1}, k2={k2}, eps={eps}.")
    codes = jaccard_codes(features, k1, k2, device=device, block_bytes=block_bytes)
    # 1 - s / (2 - s) <= eps where s >= 2 (1 - eps) / (2 - eps); the last digits are left to the comparison below.
    least = 2 * (1 - eps) / (2 - eps) - 1e-6
    columns, distances, counts = [], [], [np.zeros(1, dtype=np.int64)]
    for _, overlap in overlap_blocks(codes, codes.T.tocsr(), block_bytes=block_bytes):
        pairs = np.flatnonzero(overlap >= least)
        distance = jaccard_distance(overlap.ravel()[pairs])
        near = distance <= np.float32(eps)
        row, column = np.divmod(pairs[near], codes.shape[0])
        columns.append(column.astype(np.int32))
        distances.append(distance[near])
        counts.append(np.bincount(row, minlength=len(overlap)))
    pointers = np.concatenate(counts).cumsum()
    return sparse.csr_matrix((np.concatenate(distances), np.concatenate(columns), pointers), shape=codes.shape)


@torch.no_grad()
def center_cameras(features: np.ndarray | Tensor, camids: np.ndarray | Tensor) -> Tensor:
    """Unit features without what all images of a camera share: of each image its camera's mean is taken away.

    Features of a model that has not seen a camera lie together by camera more than by identity; without that offset
    clusters span cameras. features [N, D]: floating point, scaled to unit length first. camids [N]. Returns float32
    [N, D], not of unit length; an image that equals its camera's mean (the only one, say) stays as it is.
    Raises ValueError as `jaccard_neighbours`, and if camids are not one for each image.
    """
    features, camids = prepare_features(features, "training", "cosine"), torch.as_tensor(camids)
    if camids.shape != features.shape[:1]:
        raise ValueError(f"There must be a camera for each of {len(features)} images, got shape {list(camids.shape)}.")
    cameras, slot = camids.to(features.device).unique(return_inverse=True)
    sums = features.new_zeros(len(cameras), features.shape[1], dtype=torch.float64)
    sums.index_add_(0, slot, features.double())
    means = (sums / torch.bincount(slot)[:, None]).float()
    centred = features - means[slot]
    return torch.where(centred.norm(dim=1, keepdim=True) > 1e-5, centred, features)


@torch.no_grad()
def jaccard_codes(
    features: np.ndarray | Tensor,
    k1: int,
    k2: int,
    *,
    device: torch.device | str | None = None,
    block_bytes: int = 64 * 2**20,
) -> sparse.csr_matrix:
    """k-reciprocal codes, float32 CSR [N, N], of weights softmax(-(2 - 2 cos)); see `jaccard_neighbours`."""
    features = prepare_features(features, "training", "cosine", device)
    source = SquaredDistances(features, features)
    half = round(k1 / 2) + 1
    neighbours = search(source, k1, block_bytes=block_bytes, among_themselves=True)
    return encode(source, neighbours, k1, half, min(k1, k2), block_bytes=block_bytes)
