"""A stage: what is trained on what, how long."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import nn

from reid_core.data.feature_loader import FeatureLoader
from reid_core.data.loader import TrainLoader
from reid_core.engine.step import TrainStep

SCHEDULE_OFFSETS = {"epoch_end": 0, "epoch_start": 1}


@dataclass
class Stage:
    """One part of a training run; most methods have one.

    loader: yields the batches of an epoch. step: the module whose losses are minimised with its optimiser.
    schedule(index, base_lr) gives the rate of an epoch; its index is the epoch's number from 0 plus
    `schedule_offset`. epochs: how many. hooks: hooks of this stage alone. evaluated: whether the test features change
    in this stage, so that evaluating in it tells something. checkpoint_period: epochs between checkpoints, None for
    the run's own; the last epoch of a stage always has one.
    """

    name: str
    loader: TrainLoader | FeatureLoader
    step: TrainStep
    schedule: Callable[[int, float], float]
    epochs: int
    schedule_offset: int = 0
    hooks: Sequence = field(default_factory=tuple)
    evaluated: bool = True
    checkpoint_period: int | None = None

    @property
    def model(self) -> nn.Module:
        """The module whose `forward(batch)` gives the losses."""
        return self.step.model

    def iterations(self, epoch: int) -> int:
        """Steps of the epoch (counted from 0)."""
        return self.loader.length(epoch)

    def release(self) -> None:
        """Let go of what a stage that is over holds: its module, its optimiser's state, its loader's workers."""
        self.loader.close()
        self.step = None
