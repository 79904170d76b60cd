"""Stops a run whose losses are no longer numbers, before anything is overwritten."""

from collections.abc import Sequence

import torch

from reid_core.engine.hooks.base import Hook
from reid_core.utils import comm


class NonFiniteLossError(RuntimeError):
    """A loss was NaN or infinite; the text names the losses, the step and the images in the batch."""


class NaNGuard(Hook):
    """Looks whether every loss is finite; called before the checkpoint hook.

    On a CPU every step is looked at before the parameters are updated. On a GPU looking waits for the device, so the
    flags are collected and read every `period` steps, before each epoch ends and before each checkpoint inside one
    (every `checkpoint_period` steps): up to `period` updates may have followed, but no checkpoint. paths: file names
    of the training images, to name those of the batch.
    """

    def __init__(self, paths: Sequence[str], period: int = 20, checkpoint_period: int = 0):
        self.paths, self.period, self.checkpoint_period = paths, period, checkpoint_period
        self._pending: list[tuple[int, list[int], list[str], torch.Tensor]] = []

    def after_backward(self) -> None:
        trainer = self.trainer
        losses = trainer.losses
        flags = torch.stack([value.isfinite().all() for value in losses.values()])
        indices = trainer.batch["indices"].tolist() if "indices" in trainer.batch else []
        self._pending.append((trainer.global_iteration, indices, list(losses), flags))
        if flags.device.type == "cpu" or len(self._pending) >= self.period:
            self._look()

    def after_step(self) -> None:
        trainer = self.trainer
        is_last = trainer.iteration == trainer.stage.iterations(trainer.epoch)
        if is_last or (self.checkpoint_period and trainer.global_iteration % self.checkpoint_period == 0):
            self._look()

    def _look(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        ok = torch.stack([flags.all() for *_, flags in pending]).cpu()
        found = not bool(ok.all())
        if comm.any_process(found, pending[0][3].device) and not found:
            raise NonFiniteLossError("A loss became NaN or infinite in another process; see its message.")
        if found:
            step, indices, names, flags = pending[int((~ok).nonzero()[0])]
            bad = [name for name, fine in zip(names, flags.tolist(), strict=True) if not fine]
            raise NonFiniteLossError(self._message(step, indices, bad))

    def _message(self, step: int, indices: list[int], bad: list[str]) -> str:
        images = "\n  ".join(self.paths[index] for index in indices if 0 <= index < len(self.paths))
        return (
            f"NaN or infinity in {', '.join(bad)} at step {step} (counted from 0). The last checkpoint is untouched; "
            "try a smaller SOLVER.BASE_LR, SOLVER.CLIP_GRADIENT_NORM 1.0 or SOLVER.AMP off. "
            f"Images of the batch:\n  {images or 'unknown'}"
        )
