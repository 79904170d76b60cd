"""Reads the metrics now and then, and hands them to the writers."""

from collections.abc import Sequence

from reid_core.engine.hooks.base import Hook
from reid_core.utils import comm
from reid_core.utils.writers import Writer


class LogMetrics(Hook):
    """Every `period` steps and after the last one of an epoch: the means since the last time, as one row for all
    writers; and what other hooks then put into the metrics in `after_epoch`, in a row of its own.

    A row holds `stage`, `epoch` (the epoch under way, from 1), `iteration` (steps done in all) and the metrics. Only
    the main process writes. A resumed run drops the rows that lie ahead of it.
    """

    closes = 1

    def __init__(self, writers: Sequence[Writer], period: int):
        if period < 1:
            raise ValueError(f"LOG.PERIOD must be at least 1, got {period}.")
        self.writers = list(writers) if comm.is_main() else []
        self.period = period

    def before_train(self) -> None:
        trainer = self.trainer
        resumed = (trainer.global_iteration, trainer.epoch, trainer.stage_index) != (0, 0, 0)
        for writer in self.writers:
            writer.start(trainer.global_iteration, resumed)

    def after_step(self) -> None:
        trainer = self.trainer
        stage, iterations = trainer.stage, trainer.stage.iterations(trainer.epoch)
        for writer in self.writers:
            writer.step(stage.name, trainer.epoch + 1, stage.epochs, trainer.iteration, iterations)
        if trainer.global_iteration % self.period == 0 or trainer.iteration == iterations:
            self._write(trainer.epoch + 1, trainer.metrics.read())

    def after_epoch(self) -> None:
        found = self.trainer.metrics.read()
        if found:
            self._write(self.trainer.epoch, found)

    def after_evaluation(self, results: dict[str, float]) -> None:
        self._write(self.trainer.epoch, results)

    def _write(self, epoch: int, metrics: dict[str, float]) -> None:
        trainer = self.trainer
        row = {"stage": trainer.stage.name, "epoch": epoch, "iteration": trainer.global_iteration, **metrics}
        for writer in self.writers:
            writer.write(row)

    def after_train(self, failure: BaseException | None) -> None:
        for writer in self.writers:
            writer.close()
