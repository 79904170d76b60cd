"""Alpha query expansion and database augmentation: features averaged with those of their nearest neighbours."""

import numpy as np
import torch
from torch import Tensor

from reid_core.retrieval.distance import SquaredDistances, prepare_features
from reid_core.retrieval.neighbours import check_widths, search

_BYTES_PER_VALUE = 16  # of a neighbour's features: in float32, and their product with its weight


@torch.no_grad()
def expand_queries(
    query: np.ndarray | Tensor,
    gallery: np.ndarray | Tensor,
    k: int = 10,
    alpha: float = 3.0,
    rounds: int = 1,
    *,
    augment_gallery: bool = True,
    device: torch.device | str | None = None,
    block_bytes: int = 64 * 2**20,
) -> tuple[Tensor, Tensor]:
    """Replace features by the mean of k neighbours' features, each times its cosine similarity to the power alpha
    (Radenovic et al., TPAMI 2018, section 3.4). Returns query float32 [Q, D] and gallery float32 [G, D].

    augment_gallery: both sides are replaced, by neighbours among all Q + G images, the image itself included
    (database augmentation); otherwise queries only, by themselves and their k - 1 nearest gallery images, and the
    gallery comes back as it was. rounds: how often; similarities come from the features of the round before. The
    results are not scaled to unit length, the inputs enter as they are: scale them before if they should count
    alike. Images at more than a right angle count nothing. alpha 0: the plain mean. k is cut to what there is.
    device: None: where `query` is. block_bytes: working memory (about); beside it, two copies of the features and
    lists of 24 bytes * (Q + G) * (k + 8).

    Raises ValueError for numbers out of range, shapes that do not fit, NaN or infinite features and rows of zeros.
    """
    if min(k, rounds) < 1 or alpha < 0:
        raise ValueError(
            f"k and rounds must be positive, alpha not negative; got k={k}, rounds={rounds}, alpha={alpha}."
        )
    query = prepare_features(query, "query", device=device)
    gallery = prepare_features(gallery, "gallery", device=query.device)
    check_widths(query, gallery)
    if augment_gallery:
        features = torch.cat([query, gallery])
        for _ in range(rounds):
            unit = prepare_features(features, "query and gallery", "cosine")
            found = search(SquaredDistances(unit, unit), k, block_bytes=block_bytes, among_themselves=True)
            sums = _weighted_sums(features, found.indices, _weights(found.distances, alpha), block_bytes)
            features = sums / found.indices.shape[1]
        return features[: len(query)], features[len(query) :]
    unit_gallery = prepare_features(gallery, "gallery", "cosine")
    for _ in range(rounds if k > 1 else 0):
        source = SquaredDistances(prepare_features(query, "query", "cosine"), unit_gallery)
        found = search(source, k - 1, block_bytes=block_bytes, among_themselves=False)
        sums = _weighted_sums(gallery, found.indices, _weights(found.distances, alpha), block_bytes)
        query = (query + sums) / (1 + found.indices.shape[1])
    return query, gallery


def _weights(squared: Tensor, alpha: float) -> Tensor:
    return (1 - squared / 2).clamp(min=0).pow(alpha)  # for unit features: cosine = 1 - squared distance / 2


def _weighted_sums(features: Tensor, indices: Tensor, weights: Tensor, block_bytes: int) -> Tensor:
    """Sum over j of weights[i, j] * features[indices[i, j]]: float32 [R, D]."""
    sums = features.new_empty(len(indices), features.shape[1])
    height = max(1, block_bytes // (_BYTES_PER_VALUE * indices.shape[1] * features.shape[1]))
    parts = (values.split(height) for values in (indices, weights, sums))
    for index, weight, out in zip(*parts, strict=True):
        out.copy_((features[index] * weight[:, :, None]).sum(dim=1))
    return sums
