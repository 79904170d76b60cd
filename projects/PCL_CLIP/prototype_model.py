"""What the supervised and the unsupervised model share: the feature, and a batch kept until memories are updated."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.config import CfgNode
from reid_core.data.samplers import IdentitySampler
from reid_core.modeling.memory import PrototypeBank
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.registry import BACKBONE_REGISTRY, HEADS_REGISTRY, SAMPLER_REGISTRY
from reid_core.structures import Batch
from reid_core.utils import comm


class PrototypeModel(MetaArchitecture):
    """v = heads(backbone(images)) is compared with memory banks that are rebuilt and updated from outside.

    The forward pass of training calls `remember` with the detached unit features and the labels of each bank;
    `update_memory` mixes them in after the backward pass.
    """

    def __init__(self, backbone: nn.Module, heads: nn.Module, pixel_mean: Sequence[float], pixel_std: Sequence[float]):
        super().__init__(pixel_mean, pixel_std)
        self.backbone, self.heads = backbone, heads
        self._seen: tuple[Tensor, list[tuple[PrototypeBank, Tensor, int | None]]] | None = None
        self._filled: set[str] = set()  # banks are looked at until they are filled, once: looking waits for the device

    def features(self, batch: Batch) -> Tensor:
        """v, float [B, D], not normalised."""
        return self.heads(self.backbone(self.images(batch), batch.get("camids"), batch.get("viewids")))

    def remember(self, unit: Tensor, *updates: tuple[PrototypeBank, Tensor, int | None]) -> None:
        """Keep unit features [B, D] and, for each bank, its labels [B] and how often one label occurs at most (None:
        unknown) until `update_memory`."""
        self._seen = unit.detach(), list(updates)

    def update_memory(self) -> None:
        """Mix the last batch, of all processes in rank order, into the banks; call it once after each backward."""
        unit, updates = self._seen
        self._seen = None
        unit = comm.all_gather_rows(unit, equal=True)
        for bank, targets, occurrences in updates:
            bank.update(unit, comm.all_gather_rows(targets, equal=True), occurrences)

    def require(self, name: str, bank: PrototypeBank, hook: str) -> None:
        """Raise ValueError if a bank was never filled."""
        if name not in self._filled:
            if not bank.prototypes.any():
                raise ValueError(f"The {name} is empty: add {hook} to HOOKS, or call rebuild_memory first.")
            self._filled.add(name)

    @classmethod
    def from_config(cls, cfg: CfgNode, num_identities: int, num_cameras: int, num_views: int) -> dict:
        backbone = BACKBONE_REGISTRY.build(cfg.MODEL.BACKBONE.NAME, cfg, num_cameras=num_cameras, num_views=num_views)
        heads = HEADS_REGISTRY.build(cfg.MODEL.HEADS.NAME, cfg, widths=backbone.widths, num_identities=num_identities)
        return {
            "backbone": backbone,
            "heads": heads,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }


def instances_of_label(cfg: CfgNode) -> int | None:
    """How often one of the labels that are sampled by stands in a batch; None where the sampler does not fix it."""
    sampler = SAMPLER_REGISTRY.get(cfg.DATALOADER.SAMPLER)
    return cfg.DATALOADER.NUM_INSTANCES if issubclass(sampler, IdentitySampler) else None


def unit_features(features: Tensor, bank: PrototypeBank) -> Tensor:
    """Features [N, D] of a training set, scaled to unit length, where the bank is."""
    return F.normalize(features.to(bank.prototypes.device, torch.float32), dim=1)
