"""The supervised model: prototypical contrastive loss against a memory bank, and an identity loss."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from projects.PCL_CLIP.prototype_model import PrototypeModel, instances_of_label, unit_features
from reid_core.config import CfgNode, ConfigError
from reid_core.modeling.losses import identity_loss, prototype_contrastive_loss
from reid_core.modeling.losses.contrastive import full_precision
from reid_core.modeling.memory import PrototypeBank
from reid_core.registry import META_ARCHITECTURE_REGISTRY
from reid_core.structures import Batch


@META_ARCHITECTURE_REGISTRY.register()
class PrototypeContrastiveCLIP(PrototypeModel):
    """Losses: loss_weight * PCL(v / |v|, bank) + id_loss_weight * CE(classifier(v)) (arXiv 2310.17218, section 3).

    The bank is rebuilt and updated from outside (`rebuild_memory`, `update_memory`). occurrences: how often one
    identity stands in a batch at most.
    """

    identity_bound = ("heads.classifier", "memory.prototypes")

    def __init__(
        self,
        backbone: nn.Module,
        heads: nn.Module,
        memory: PrototypeBank,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        loss_weight: float = 1.0,
        id_loss_weight: float = 0.25,
        temperature: float = 0.05,
        label_smoothing: float = 0.1,
        occurrences: int | None = None,
    ):
        super().__init__(backbone, heads, pixel_mean, pixel_std)
        if temperature <= 0:
            raise ConfigError(f"PCL.TEMPERATURE must be positive, got {temperature}.")
        if loss_weight <= 0 and id_loss_weight <= 0:
            raise ConfigError("PCL.LOSS_WEIGHT and PCL.ID_LOSS_WEIGHT are both 0: no loss is left.")
        self.memory = memory
        self.loss_weight, self.id_loss_weight = loss_weight, id_loss_weight
        self.temperature, self.label_smoothing, self.occurrences = temperature, label_smoothing, occurrences
        if id_loss_weight == 0:
            heads.classifier = None  # a classifier without a loss would only decay

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        feature, targets = self.features(batch), batch["targets"]
        unit = F.normalize(full_precision(feature), dim=1)
        self.remember(unit, (self.memory, targets, self.occurrences))
        losses = {}
        if self.loss_weight > 0:
            self.require("memory", self.memory, "PrototypeMemoryHook")
            loss = prototype_contrastive_loss(unit, self.memory.prototypes, targets, self.temperature)
            losses["loss_pcl"] = self.loss_weight * loss
        if self.id_loss_weight > 0:
            loss = identity_loss(self.heads.classifier(feature), targets, self.label_smoothing)
            losses["loss_id"] = self.id_loss_weight * loss
        return losses

    def rebuild_memory(self, features: Tensor, targets: Tensor) -> None:
        """Prototypes from the features of all training images [N, D] (any length) and their labels [N]."""
        unit = unit_features(features, self.memory)
        self.memory.rebuild(unit, targets.to(unit.device))

    @classmethod
    def from_config(cls, cfg: CfgNode, num_identities: int, num_cameras: int, num_views: int) -> dict:
        arguments = super().from_config(cfg, num_identities, num_cameras, num_views)
        width = arguments["heads"].output_width
        return {
            **arguments,
            "memory": PrototypeBank(num_identities, width, cfg.PCL.MOMENTUM, cfg.PCL.UPDATE_RULE),
            "loss_weight": cfg.PCL.LOSS_WEIGHT,
            "id_loss_weight": cfg.PCL.ID_LOSS_WEIGHT,
            "temperature": cfg.PCL.TEMPERATURE,
            "label_smoothing": cfg.MODEL.LOSSES.LABEL_SMOOTHING,
            "occurrences": instances_of_label(cfg),
        }
