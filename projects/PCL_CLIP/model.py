"""The supervised model: prototypical contrastive loss against a memory bank, and an identity loss."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.config import CfgNode, ConfigError
from reid_core.modeling.losses import identity_loss, prototype_contrastive_loss
from reid_core.modeling.memory import PrototypeBank
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.registry import BACKBONE_REGISTRY, HEADS_REGISTRY, META_ARCHITECTURE_REGISTRY
from reid_core.structures import Batch
from reid_core.utils import comm


@META_ARCHITECTURE_REGISTRY.register()
class PrototypeContrastiveCLIP(MetaArchitecture):
    """Losses: loss_weight * PCL(v / |v|, bank) + id_loss_weight * CE(classifier(v)) (arXiv 2310.17218, section 3).

    The bank is rebuilt and updated from outside (`rebuild_memory`, `update_memory`): the forward pass only keeps the
    detached features of the last batch. occurrences: how often one identity stands in a batch at most.
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
        super().__init__(pixel_mean, pixel_std)
        if temperature <= 0:
            raise ConfigError(f"PCL.TEMPERATURE must be positive, got {temperature}.")
        if loss_weight <= 0 and id_loss_weight <= 0:
            raise ConfigError("PCL.LOSS_WEIGHT and PCL.ID_LOSS_WEIGHT are both 0: no loss is left.")
        self.backbone, self.heads, self.memory = backbone, heads, memory
        self.loss_weight, self.id_loss_weight = loss_weight, id_loss_weight
        self.temperature, self.label_smoothing, self.occurrences = temperature, label_smoothing, occurrences
        if id_loss_weight == 0:
            heads.classifier = None  # a classifier without a loss would only decay
        self._seen: tuple[Tensor, Tensor] | None = None
        self._has_memory = False  # looked at until it is filled, once: looking waits for the device

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        feature, targets = self.features(batch), batch["targets"]
        unit = F.normalize(feature.float(), dim=1)
        self._seen = unit.detach(), targets
        self._require_memory()
        losses = {}
        if self.loss_weight > 0:
            loss = prototype_contrastive_loss(unit, self.memory.prototypes, targets, self.temperature)
            losses["loss_pcl"] = self.loss_weight * loss
        if self.id_loss_weight > 0:
            loss = identity_loss(self.heads.classifier(feature), targets, self.label_smoothing)
            losses["loss_id"] = self.id_loss_weight * loss
        return losses

    def features(self, batch: Batch) -> Tensor:
        """v, float [B, D], not normalised."""
        return self.heads(self.backbone(self.images(batch), batch.get("camids"), batch.get("viewids")))

    def rebuild_memory(self, features: Tensor, targets: Tensor) -> None:
        """Prototypes from the features of all training images [N, D] (any length) and their labels [N]."""
        device = self.memory.prototypes.device
        self.memory.rebuild(F.normalize(features.to(device), dim=1), targets.to(device))

    def _require_memory(self) -> None:
        if self.loss_weight > 0 and not self._has_memory:
            self._has_memory = bool(self.memory.prototypes.any())
            if not self._has_memory:
                raise ValueError("The memory is empty: add PrototypeMemoryHook to HOOKS, or call rebuild_memory first.")

    def update_memory(self) -> None:
        """Mix the last batch, of all processes in rank order, into the bank; call it once after each backward."""
        unit, targets = self._seen
        self._seen = None
        self.memory.update(
            comm.all_gather_rows(unit, equal=True), comm.all_gather_rows(targets, equal=True), self.occurrences
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, num_identities: int, num_cameras: int, num_views: int) -> dict:
        backbone = BACKBONE_REGISTRY.build(cfg.MODEL.BACKBONE.NAME, cfg, num_cameras=num_cameras, num_views=num_views)
        heads = HEADS_REGISTRY.build(cfg.MODEL.HEADS.NAME, cfg, widths=backbone.widths, num_identities=num_identities)
        memory = PrototypeBank(num_identities, heads.output_width, cfg.PCL.MOMENTUM, cfg.PCL.UPDATE_RULE)
        is_pk = cfg.DATALOADER.SAMPLER == "IdentitySampler"
        return {
            "backbone": backbone,
            "heads": heads,
            "memory": memory,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "loss_weight": cfg.PCL.LOSS_WEIGHT,
            "id_loss_weight": cfg.PCL.ID_LOSS_WEIGHT,
            "temperature": cfg.PCL.TEMPERATURE,
            "label_smoothing": cfg.MODEL.LOSSES.LABEL_SMOOTHING,
            "occurrences": cfg.DATALOADER.NUM_INSTANCES if is_pk else None,
        }
