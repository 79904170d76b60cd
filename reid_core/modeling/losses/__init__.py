"""Losses: pure functions of tensors; weights are applied by the meta-architecture."""

from reid_core.modeling.losses.classification import identity_loss
from reid_core.modeling.losses.contrastive import prototype_contrastive_loss
from reid_core.modeling.losses.triplet import batch_hard_triplet_loss

__all__ = ["batch_hard_triplet_loss", "identity_loss", "prototype_contrastive_loss"]
