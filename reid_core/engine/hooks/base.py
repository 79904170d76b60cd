"""The hook's contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reid_core.engine.trainer import Trainer


class Hook:
    """Does something at moments of the training; the trainer sets `trainer` when the hook is registered.

    `name` tells hooks apart in checkpoints: two hooks of one class need two names. What `state_dict` returns must be
    numbers, text, lists, dictionaries and tensors. In all processes the same hooks are called in the same order.

    `after_evaluation` is called by the evaluation hook; `after_train` gets what ended the run, None if it was done.
    """

    trainer: Trainer
    makes_labels: bool = False  # whether it gives training images labels; some hook must, where a run is told none
    closes: int = 0  # 1: called after all hooks of 0 (what logs, evaluates, saves); 2: after those (what ends the run)

    @property
    def name(self) -> str:
        return type(self).__name__

    def before_train(self) -> None: ...

    def before_stage(self) -> None: ...

    def before_epoch(self) -> None: ...

    def before_step(self) -> None: ...

    def after_backward(self) -> None: ...

    def after_step(self) -> None: ...

    def after_epoch(self) -> None: ...

    def after_evaluation(self, results: dict[str, float]) -> None: ...

    def after_stage(self) -> None: ...

    def after_train(self, failure: BaseException | None) -> None: ...

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None: ...
