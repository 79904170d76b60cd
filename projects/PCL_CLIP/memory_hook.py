"""Rebuilds the memory bank at the start of every epoch and updates it after every backward pass."""

import time
from collections.abc import Iterable

from torch import Tensor

from reid_core.config import CfgNode, ConfigError
from reid_core.data.loader import build_test_loader
from reid_core.data.training_set import TrainingSet
from reid_core.engine.encoding import encode
from reid_core.engine.hooks import Hook
from reid_core.registry import HOOK_REGISTRY
from reid_core.structures import Batch
from reid_core.utils import comm
from reid_core.utils.logging import get_logger


@HOOK_REGISTRY.register()
class PrototypeMemoryHook(Hook):
    """batches: all training images with the test transform, this process's share. targets: int64 [N], all labels."""

    def __init__(self, batches: Iterable[Batch], targets: Tensor):
        self.batches, self.targets = batches, targets

    def before_train(self) -> None:
        model = self.trainer.model
        if not hasattr(model, "memory"):
            raise ConfigError(
                f"PrototypeMemoryHook fills a memory of identities, which {type(model).__name__} has not: set "
                "MODEL.META_ARCHITECTURE PrototypeContrastiveCLIP, or take the hook from HOOKS."
            )

    def before_epoch(self) -> None:
        began = time.perf_counter()
        features = encode(self.trainer.model, self.batches)
        self.trainer.model.rebuild_memory(features, self.targets)
        took = time.perf_counter() - began
        get_logger().info(f"Memory of {int(self.targets.max()) + 1} prototypes rebuilt in {took:.1f} s.")

    def after_backward(self) -> None:
        self.trainer.model.update_memory()

    @classmethod
    def from_config(cls, cfg: CfgNode, training_set: TrainingSet) -> dict:
        loader = build_test_loader(cfg, training_set.images, comm.rank(), comm.world_size())
        return {"batches": loader, "targets": training_set.targets}
