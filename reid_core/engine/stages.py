"""A stage: what is trained on what, how long."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import nn

from reid_core.data.loader import TrainLoader
from reid_core.engine.step import TrainStep

SCHEDULE_OFFSETS = {"epoch_end": 0, "epoch_start": 1}


@dataclass
class Stage:
    """One part of a training run; most methods have one.

    loader: yields the batches of an epoch. step: the module whose losses are minimised with its optimiser.
    schedule(index, base_lr) gives the rate of an epoch; its index is the epoch's number from 0 plus
    `schedule_offset`. epochs: how many. hooks: hooks of this stage alone.
    """

    name: str
    loader: TrainLoader
    step: TrainStep
    schedule: Callable[[int, float], float]
    epochs: int
    schedule_offset: int = 0
    hooks: Sequence = field(default_factory=tuple)

    @property
    def model(self) -> nn.Module:
        """The module whose `forward(batch)` gives the losses."""
        return self.step.model

    def iterations(self, epoch: int) -> int:
        """Steps of the epoch (counted from 0)."""
        return self.loader.length(epoch)
