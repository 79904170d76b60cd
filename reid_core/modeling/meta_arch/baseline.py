"""The plain strong baseline: identity loss and batch-hard triplet loss on the features of a CLIP image encoder."""

from collections.abc import Sequence

from torch import Tensor, nn

from reid_core.config import CfgNode
from reid_core.modeling.losses import batch_hard_triplet_loss, identity_loss
from reid_core.modeling.meta_arch.base import MetaArchitecture
from reid_core.registry import BACKBONE_REGISTRY, HEADS_REGISTRY, META_ARCHITECTURE_REGISTRY
from reid_core.structures import Batch, ImageFeatures


@META_ARCHITECTURE_REGISTRY.register()
class Baseline(MetaArchitecture):
    """Losses: id_weight * sum of cross-entropies of both classifiers + triplet_weight * sum over the three features.

    backbone: `forward(images, camids, viewids) -> ImageFeatures`. heads: in training ImageFeatures -> list of scores,
    in evaluation -> test feature.
    """

    identity_bound = ("heads.classifier",)

    def __init__(
        self,
        backbone: nn.Module,
        heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        id_weight: float = 1.0,
        label_smoothing: float = 0.1,
        triplet_weight: float = 1.0,
        triplet_margin: float = 0.3,
    ):
        super().__init__(pixel_mean, pixel_std)
        self.backbone, self.heads = backbone, heads
        self.id_weight, self.label_smoothing = id_weight, label_smoothing
        self.triplet_weight, self.triplet_margin = triplet_weight, triplet_margin

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.feature_losses(self.image_features(batch), batch["targets"])

    def features(self, batch: Batch) -> Tensor:
        return self.heads(self.image_features(batch))

    def image_features(self, batch: Batch) -> ImageFeatures:
        """What the backbone gives for a batch, with its side information if the batch has some."""
        return self.backbone(self.images(batch), batch.get("camids"), batch.get("viewids"))

    def feature_losses(self, features: ImageFeatures, targets: Tensor) -> dict[str, Tensor]:
        """The losses of a training batch's features."""
        scores = self.heads(features)
        id_loss = sum(identity_loss(score, targets, self.label_smoothing) for score in scores)
        triplet_loss = sum(batch_hard_triplet_loss(feature, targets, self.triplet_margin) for feature in features)
        return {"loss_id": self.id_weight * id_loss, "loss_triplet": self.triplet_weight * triplet_loss}

    @classmethod
    def from_config(cls, cfg: CfgNode, num_identities: int, num_cameras: int, num_views: int) -> dict:
        backbone = BACKBONE_REGISTRY.build(
            cfg.MODEL.BACKBONE.NAME, cfg, num_cameras=num_cameras, num_views=num_views
        )
        heads = HEADS_REGISTRY.build(
            cfg.MODEL.HEADS.NAME, cfg, widths=backbone.widths, num_identities=num_identities
        )
        return {
            "backbone": backbone,
            "heads": heads,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "id_weight": cfg.MODEL.LOSSES.ID_WEIGHT,
            "label_smoothing": cfg.MODEL.LOSSES.LABEL_SMOOTHING,
            "triplet_weight": cfg.MODEL.LOSSES.TRIPLET_WEIGHT,
            "triplet_margin": cfg.MODEL.LOSSES.TRIPLET_MARGIN,
        }
