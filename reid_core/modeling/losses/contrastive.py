"""Contrastive losses between features and prototypes."""

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
        features = features if features.dtype == torch.float64 else features.float()
        logits = features @ prototypes.detach().to(features.dtype).T
    return F.cross_entropy(logits / temperature, targets)
