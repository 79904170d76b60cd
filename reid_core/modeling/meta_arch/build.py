"""Building the model that the config names."""

import torch

import reid_core.modeling.backbones
import reid_core.modeling.heads  # noqa: F401  (both register their classes)
from reid_core.config import CfgNode
from reid_core.modeling.meta_arch.base import MetaArchitecture
from reid_core.registry import META_ARCHITECTURE_REGISTRY


def build_model(
    cfg: CfgNode, device: torch.device | str, num_identities: int, num_cameras: int, num_views: int
) -> MetaArchitecture:
    """The meta-architecture that MODEL.META_ARCHITECTURE names, on the device.

    num_identities: classes of the training set; 0 builds a model for evaluation, without classifier or prototypes.
    num_cameras, num_views: rows of side-information tables, where the model has them.
    """
    model = META_ARCHITECTURE_REGISTRY.build(
        cfg.MODEL.META_ARCHITECTURE,
        cfg,
        num_identities=num_identities,
        num_cameras=num_cameras,
        num_views=num_views,
    )
    return model.to(device)
