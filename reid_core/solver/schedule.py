"""Learning-rate schedules: functions from an epoch's index and a group's base rate to its rate.

Being functions of the epoch alone they have no state: a resumed run asks for the same epoch and gets the same rate.
"""

import bisect
import math
from collections.abc import Sequence

from reid_core.config import CfgNode, ConfigError
from reid_core.registry import SCHEDULE_REGISTRY


@SCHEDULE_REGISTRY.register()
class WarmupMultiStep:
    """Base rate times `gamma` at each milestone passed, times a factor that rises to 1 over the warm-up.

    With "linear" the factor goes from `warmup_factor` at index 0 to 1 at index `warmup_epochs`; with "constant" it
    stays `warmup_factor` until then. Raises ConfigError for falling milestones or an unknown method.
    """

    def __init__(
        self, milestones: Sequence[int], gamma: float, warmup_epochs: int, warmup_factor: float, warmup_method: str
    ):
        if list(milestones) != sorted(milestones):
            raise ConfigError(f"SOLVER.MILESTONES must rise, got {list(milestones)}.")
        if warmup_method not in ("linear", "constant"):
            raise ConfigError(f"SOLVER.WARMUP_METHOD must be 'linear' or 'constant', got '{warmup_method}'.")
        self.milestones, self.gamma = list(milestones), gamma
        self.warmup_epochs, self.warmup_factor, self.warmup_method = warmup_epochs, warmup_factor, warmup_method

    def __call__(self, index: int, base_lr: float) -> float:
        """The learning rate at epoch index `index` (0 is the first) for a group of base rate `base_lr`."""
        factor = 1.0
        if index < self.warmup_epochs:
            factor = self.warmup_factor
            if self.warmup_method == "linear":
                done = index / self.warmup_epochs
                factor = self.warmup_factor * (1 - done) + done
        return base_lr * factor * self.gamma ** bisect.bisect_right(self.milestones, index)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {
            "milestones": cfg.MILESTONES,
            "gamma": cfg.GAMMA,
            "warmup_epochs": cfg.WARMUP_EPOCHS,
            "warmup_factor": cfg.WARMUP_FACTOR,
            "warmup_method": cfg.WARMUP_METHOD,
        }


@SCHEDULE_REGISTRY.register()
class WarmupCosine:
    """Linear from `warmup_lr` to the base rate, then half a cosine that started at index 0, down to `min_lr`.

    The cosine spans all `epochs` (the warm-up hides its beginning); from index `epochs` on the rate is `min_lr`.
    """

    def __init__(self, epochs: int, min_lr: float, warmup_epochs: int, warmup_lr: float):
        if epochs < 0:
            raise ConfigError(f"SOLVER.MAX_EPOCHS must not be negative, got {epochs}.")
        self.epochs, self.min_lr, self.warmup_epochs, self.warmup_lr = epochs, min_lr, warmup_epochs, warmup_lr

    def __call__(self, index: int, base_lr: float) -> float:
        """The learning rate at epoch index `index` (0 is the first) for a group of base rate `base_lr`."""
        if index < self.warmup_epochs:
            return self.warmup_lr + index * (base_lr - self.warmup_lr) / self.warmup_epochs
        if index >= self.epochs:
            return self.min_lr
        return self.min_lr + 0.5 * (base_lr - self.min_lr) * (1 + math.cos(math.pi * index / self.epochs))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {
            "epochs": cfg.MAX_EPOCHS,
            "min_lr": cfg.MIN_LR,
            "warmup_epochs": cfg.WARMUP_EPOCHS,
            "warmup_lr": cfg.WARMUP_LR,
        }


def build_schedule(cfg: CfgNode) -> WarmupMultiStep | WarmupCosine:
    """The schedule that the solver node `cfg` (SOLVER or a stage's own) names."""
    return SCHEDULE_REGISTRY.build(cfg.SCHEDULE, cfg)
