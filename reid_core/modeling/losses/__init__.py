"""Losses: pure functions of tensors; weights are applied by the meta-architecture."""

from reid_core.modeling.losses.camera_proxy import (
    images_of_cameras,
    intra_camera_loss,
    offline_association_loss,
    online_association_loss,
    proxy_labels,
)
from reid_core.modeling.losses.classification import identity_loss
from reid_core.modeling.losses.contrastive import prototype_contrastive_loss, supervised_contrastive_loss
from reid_core.modeling.losses.self_supervised import simclr_loss, simsiam_loss, simsiam_min_loss
from reid_core.modeling.losses.triplet import batch_hard_triplet_loss

__all__ = [
    "batch_hard_triplet_loss",
    "identity_loss",
    "images_of_cameras",
    "intra_camera_loss",
    "offline_association_loss",
    "online_association_loss",
    "prototype_contrastive_loss",
    "proxy_labels",
    "simclr_loss",
    "simsiam_loss",
    "simsiam_min_loss",
    "supervised_contrastive_loss",
]
