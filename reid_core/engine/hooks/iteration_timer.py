"""Measures steps, and the share of them that waits for data."""

import time

from reid_core.engine.hooks.base import Hook

_WARM_UP = 3  # the first steps build kernels and fill the loaders' queues: they tell nothing about the rest


class IterationTimer(Hook):
    """Puts `seconds_per_iteration`, `data_seconds` and `eta_seconds` into the metrics.

    The estimate counts the remaining steps of the stage at its mean pace in this process; evaluations in between are
    not in it.
    """

    def __init__(self) -> None:
        self._before = self._step_began = 0.0
        self._steps, self._seconds = 0, 0.0

    def before_stage(self) -> None:
        self._steps, self._seconds = 0, 0.0  # another stage's steps tell nothing about this one's

    def before_epoch(self) -> None:
        self._before = time.perf_counter()

    def before_step(self) -> None:
        self._step_began = time.perf_counter()
        if self.trainer.iteration == 0 or not self._before:
            self._before = self._step_began

    def after_step(self) -> None:
        now = time.perf_counter()
        took, waited = now - self._before, self._step_began - self._before
        self._before = now
        self._steps += 1
        if self._steps <= _WARM_UP:
            return
        self._seconds += took
        pace = self._seconds / (self._steps - _WARM_UP)
        self.trainer.metrics.put(
            {"seconds_per_iteration": took, "data_seconds": waited, "eta_seconds": pace * self._remaining()}
        )

    def _remaining(self) -> int:
        trainer, stage = self.trainer, self.trainer.stage
        per_epoch = stage.iterations(trainer.epoch)
        return max(0, (stage.epochs - trainer.epoch) * per_epoch - trainer.iteration)
