"""Writes checkpoints, keeps the newest few and the best."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from reid_core.engine.hooks.base import Hook
from reid_core.engine.hooks.interrupt import Interrupted
from reid_core.modeling.checkpoint import CheckpointError, checkpoint_path, list_checkpoints, save_checkpoint
from reid_core.utils import comm
from reid_core.utils.file_io import atomic_file
from reid_core.utils.logging import get_logger

BEST = "best.pt"


class CheckpointHook(Hook):
    """Saves every `period` epochs (a stage may have its own), every `iteration_period` steps (0: not), at the end, and
    when interrupted.

    content() gives what is saved beside the trainer's state (a dictionary with "model"). keep: newest ones kept.
    best_metric: a checkpoint whose evaluation gave the largest value so far is kept as `best.pt`; "" for none.
    Must come behind all hooks whose state matters.
    """

    closes = 1

    def __init__(
        self,
        folder: Path,
        content: Callable[[], dict],
        period: int,
        iteration_period: int = 0,
        keep: int = 2,
        best_metric: str = "mAP",
    ):
        if period < 1 or keep < 1:
            raise ValueError(f"CHECKPOINT.PERIOD and CHECKPOINT.KEEP must be at least 1, got {period} and {keep}.")
        self.folder, self.content, self.period, self.iteration_period = Path(folder), content, period, iteration_period
        self.keep, self.best_metric = keep, best_metric
        self.best, self.best_iteration = float("-inf"), -1
        self._saved_iteration: tuple | None = None

    def before_train(self) -> None:
        resumed = checkpoint_path(self.folder, self.trainer.global_iteration)
        if self.best_iteration == self.trainer.global_iteration and resumed.exists():
            self._link_best()  # the run was killed between the checkpoint and its being named the best

    def after_evaluation(self, results: dict[str, float]) -> None:
        if not self.best_metric:
            return
        if self.best_metric not in results:
            raise CheckpointError(
                f"CHECKPOINT.BEST_METRIC is '{self.best_metric}', the evaluation gave {', '.join(sorted(results))}."
            )
        if results[self.best_metric] > self.best:
            self.best, self.best_iteration = results[self.best_metric], self.trainer.global_iteration

    def after_step(self) -> None:
        trainer = self.trainer
        inside = trainer.iteration < trainer.stage.iterations(trainer.epoch)
        if self.iteration_period and inside and trainer.global_iteration % self.iteration_period == 0:
            self._save()

    def after_epoch(self) -> None:
        trainer = self.trainer
        is_best = self.best_iteration == trainer.global_iteration
        period = trainer.stage.checkpoint_period or self.period
        if trainer.epoch % period == 0 or trainer.epoch == trainer.stage.epochs or is_best:
            self._save()
            if is_best:
                self._link_best()

    def after_train(self, failure: BaseException | None) -> None:
        if isinstance(failure, Interrupted):
            path = self._save()
            get_logger().info(f"Saved {path} after {self.trainer.global_iteration} steps; --resume goes on from there.")

    def _save(self) -> Path:
        """Write a checkpoint of this moment and remove those that are too old; the main process reports its fate."""
        trainer = self.trainer
        path = checkpoint_path(self.folder, trainer.global_iteration)
        position = (trainer.global_iteration, trainer.epoch, trainer.iteration)
        if position == self._saved_iteration:
            return path
        state = trainer.state_dict()  # gathers from all processes
        failure = None
        if comm.is_main():
            try:
                save_checkpoint(path, {**self.content(), "trainer": state})
                for old in list_checkpoints(self.folder)[: -self.keep]:
                    old.unlink()
            except (CheckpointError, OSError) as error:  # all processes have to hear of it, or they wait for ever
                failure = str(error)
        failure = comm.broadcast_object(failure)
        if failure:
            raise CheckpointError(failure)
        self._saved_iteration = position
        return path

    def _link_best(self) -> None:
        """Give the checkpoint a second name; a copy where the file system has no links."""
        if not comm.is_main():
            return
        source, best = checkpoint_path(self.folder, self.trainer.global_iteration), self.folder / BEST
        temporary = self.folder / f".{BEST}.link.tmp"
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            with atomic_file(best) as file, source.open("rb") as original:
                shutil.copyfileobj(original, file)
        else:
            os.replace(temporary, best)
            temporary.unlink(missing_ok=True)  # the rename of a name to another of the same file does nothing

    def state_dict(self) -> dict:
        return {"best": self.best, "best_iteration": self.best_iteration}

    def load_state_dict(self, state: dict) -> None:
        self.best, self.best_iteration = state["best"], state["best_iteration"]
