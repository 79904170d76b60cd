"""Contrastive losses between features and prototypes, and between features of two kinds."""

import torch
from torch import Tensor
from torch.nn import functional as F


def prototype_contrastive_loss(features: Tensor, prototypes: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the dot products with all prototypes: -log softmax(f @ p.T / temperature)[target].

    features: [B, D] float, unit norm. prototypes: [C, D], unit norm; no gradient reaches them. targets: [B] int64 in
    [0, C). Returns the mean over the batch, a scalar. Raises ValueError if the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    with torch.autocast(features.device.type, enabled=False):  # 16-bit cosines over 0.05 are too coarse
        features = full_precision(features)
        logits = features @ prototypes.detach().to(features.dtype).T
    return F.cross_entropy(logits / temperature, targets)


def supervised_contrastive_loss(
    anchors: Tensor, others: Tensor, anchor_targets: Tensor, other_targets: Tensor, temperature: float = 1.0
) -> Tensor:
    """For each anchor a, -mean over its positives p of log softmax(a @ others.T / temperature)[p] (Khosla et al. 2020).

    The positives of an anchor are all others of its identity; the dot products are those of the features as given.
    anchors: [A, D] float. others: [N, D] float. anchor_targets: [A], other_targets: [N] int64. Returns the mean over
    the anchors that have a positive, a scalar; those without one are left out, and where no anchor has one the loss
    and its gradient are 0. Raises ValueError if the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    with torch.autocast(anchors.device.type, enabled=False):  # unnormalised products need all digits
        logits = full_precision(anchors) @ full_precision(others).T / temperature
    positive = anchor_targets[:, None] == other_targets[None, :]
    number = positive.sum(dim=1)
    mean = (logits.log_softmax(dim=1) * positive).sum(dim=1) / number.clamp(min=1)  # 0 for an anchor without one
    return -mean.sum() / (number > 0).sum().clamp(min=1)


def full_precision(features: Tensor) -> Tensor:
    """16-bit features as float32; float32 and float64 as they are."""
    return features if features.dtype == torch.float64 else features.float()
