"""Two BNNecks whose outputs are one feature, with one classifier on it."""

import torch
from torch import Tensor, nn

from reid_core.config import CfgNode
from reid_core.modeling.heads import BNNeck, identity_classifier
from reid_core.registry import HEADS_REGISTRY
from reid_core.structures import ImageFeatures


@HEADS_REGISTRY.register()
class ConcatenatedBNNeckHeads(nn.Module):
    """v = concat(BN(last), BN(projected)): the feature of the memory, of the classifier and of matching alike.

    num_identities: 0 leaves the classifier out. classifier is None then.
    """

    def __init__(self, width: int, projected_width: int, num_identities: int, bn_momentum: float = 0.1):
        super().__init__()
        self.bottleneck = BNNeck(width, bn_momentum)
        self.bottleneck_proj = BNNeck(projected_width, bn_momentum)
        self.output_width = width + projected_width
        self.classifier = identity_classifier(self.output_width, num_identities)

    def forward(self, features: ImageFeatures) -> Tensor:
        """ImageFeatures -> v, float [B, last + projected]."""
        return torch.cat([self.bottleneck(features.last), self.bottleneck_proj(features.projected)], dim=1)

    @classmethod
    def from_config(cls, cfg: CfgNode, widths: ImageFeatures, num_identities: int) -> dict:
        return {
            "width": widths.last,
            "projected_width": widths.projected,
            "num_identities": num_identities,
            "bn_momentum": cfg.MODEL.HEADS.BN_MOMENTUM,
        }
