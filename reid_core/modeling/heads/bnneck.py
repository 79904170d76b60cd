"""The batch-norm neck, and heads with one neck and one classifier on each of two features."""

import torch
from torch import Tensor, nn

from reid_core.config import CfgNode, ConfigError
from reid_core.registry import HEADS_REGISTRY
from reid_core.structures import ImageFeatures


class BNNeck(nn.BatchNorm1d):
    """Batch-norm neck (Luo et al. 2019, section 3.5). features [B, D] -> [B, D]."""

    def __init__(self, width: int, momentum: float = 0.1):
        super().__init__(width, momentum=momentum)
        self.bias.requires_grad_(False)  # the metric space stays centred on the origin

    def forward(self, features: Tensor) -> Tensor:
        """Raises ValueError for a single row in training: it has no variance."""
        if self.training and len(features) < 2:
            raise ValueError(
                "A BNNeck normalises over the batch and needs at least 2 images in each process in training, got "
                f"{len(features)}; make DATALOADER.BATCH_SIZE larger."
            )
        return super().forward(features)


def identity_classifier(width: int, num_identities: int) -> nn.Linear | None:
    """A linear layer without bias, weights N(0, 0.001); None where there are no identities (evaluation only)."""
    if num_identities == 0:
        return None
    classifier = nn.Linear(width, num_identities, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    return classifier


@HEADS_REGISTRY.register()
class BNNeckHeads(nn.Module):
    """A BNNeck and a classifier on `last`, and another pair on `projected` of the image features.

    In training `forward(features)` returns the two scores [B, C]; in evaluation the test feature [B, last +
    projected], taken before the necks or after them. Raises ConfigError for another `neck_feature`.
    """

    identity_bound = ("classifier", "classifier_proj")  # parameters whose shape depends on the number of identities

    def __init__(
        self,
        width: int,
        projected_width: int,
        num_identities: int,
        bn_momentum: float = 0.1,
        neck_feature: str = "before",
    ):
        super().__init__()
        if neck_feature not in ("before", "after"):
            raise ConfigError(f"MODEL.HEADS.NECK_FEATURE must be 'before' or 'after', got '{neck_feature}'.")
        self.neck_feature = neck_feature
        self.bottleneck = BNNeck(width, bn_momentum)
        self.bottleneck_proj = BNNeck(projected_width, bn_momentum)
        self.classifier = identity_classifier(width, num_identities)
        self.classifier_proj = identity_classifier(projected_width, num_identities)

    @property
    def output_width(self) -> int:
        """D of the test feature."""
        return self.bottleneck.num_features + self.bottleneck_proj.num_features

    def forward(self, features: ImageFeatures) -> list[Tensor] | Tensor:
        if not self.training and self.neck_feature == "before":
            return torch.cat([features.last, features.projected], dim=1)
        after = [self.bottleneck(features.last), self.bottleneck_proj(features.projected)]
        if self.training:
            return [self.classifier(after[0]), self.classifier_proj(after[1])]
        return torch.cat(after, dim=1)

    @classmethod
    def from_config(cls, cfg: CfgNode, widths: ImageFeatures, num_identities: int) -> dict:
        return {
            "width": widths.last,
            "projected_width": widths.projected,
            "num_identities": num_identities,
            "bn_momentum": cfg.MODEL.HEADS.BN_MOMENTUM,
            "neck_feature": cfg.MODEL.HEADS.NECK_FEATURE,
        }
