"""Cross-entropy over identities."""

from torch import Tensor
from torch.nn import functional as F


def identity_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy against (1 - e) * one-hot + e / C with e = label_smoothing (Szegedy et al. 2016, section 7).

    logits: [B, C] float. targets: [B] int64 in [0, C). Returns the mean over the batch, a scalar.
    Raises ValueError if the smoothing is outside [0, 1).
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}.")
    return F.cross_entropy(logits.float(), targets, label_smoothing=label_smoothing)
