"""Batch-hard triplet loss (Hermans et al. 2017)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def pairwise_distance(features: Tensor) -> Tensor:
    """Euclidean distances of all pairs of rows: [B, D] -> [B, B] float32 or float64, at least 1e-6 (a root's slope)."""
    with torch.autocast(features.device.type, enabled=False):  # the difference of large numbers needs all digits
        features = features if features.dtype == torch.float64 else features.float()
        squared = features.pow(2).sum(dim=1)
        squared = squared[:, None] + squared[None, :] - 2 * features @ features.T
    return squared.clamp(min=1e-12).sqrt()


def batch_hard_triplet_loss(features: Tensor, targets: Tensor, margin: float | None) -> Tensor:
    """Mean over anchors of max(0, d(hardest positive) - d(hardest negative) + margin), or the soft margin for None.

    The hardest positive is the farthest row of the same identity (the anchor itself counts, at distance 0), the
    hardest negative the nearest row of another one. features: [B, D] float. targets: [B] int64. Returns a scalar.
    With a single identity in the batch there is no negative, and the loss is 0.
    """
    distances = pairwise_distance(features)
    same = targets[:, None] == targets[None, :]
    positive = distances.masked_fill(~same, float("-inf")).amax(dim=1)
    negative = distances.masked_fill(same, float("inf")).amin(dim=1)
    if margin is None:
        return F.softplus(positive - negative).mean()
    return F.relu(positive - negative + margin).mean()
