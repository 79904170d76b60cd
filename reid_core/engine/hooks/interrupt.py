"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import signal
import threading

import torch

from reid_core.engine.hooks.base import Hook
from reid_core.utils import comm
from reid_core.utils.logging import get_logger

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The run was asked to stop; raised after the step, when the state is whole. `signal_number` says by what."""

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class InterruptHook(Hook):
    """On the first signal the present step (or evaluation) is finished, then `Interrupted` is raised.

    The checkpoint hook sees it in `after_train` and saves. A second signal ends the process at once. Must be the last
    hook, so that those of the step have all run. Several processes agree on the step by asking each other every
    `period` steps. Signals are only caught in the main thread.
    """

    def __init__(self, device: torch.device, period: int = 1):
        self.device, self.period = device, period
        self._caught: int | None = None
        self._previous: dict[int, object] = {}

    def before_train(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._catch) for number in _SIGNALS}

    def _catch(self, number: int, frame: object) -> None:
        self._restore()  # a second signal does what it always did
        self._caught = number
        get_logger().warning(f"{signal.Signals(number).name}: saving after this step; once more stops at once.")

    def after_step(self) -> None:
        if comm.world_size() > 1:
            if self.trainer.global_iteration % self.period:
                return
            if not comm.any_process(self._caught is not None, self.device):
                return
            self._caught = self._caught or signal.SIGTERM
        if self._caught is not None:
            raise Interrupted(self._caught)

    def after_epoch(self) -> None:
        self.after_step()

    def after_train(self, failure: BaseException | None) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
