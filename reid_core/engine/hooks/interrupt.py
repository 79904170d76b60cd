"""Ctrl-C and SIGTERM: finish the step, save, leave."""

import os
import signal
import threading
import time

import torch

from reid_core.engine.hooks.base import Hook
from reid_core.utils import comm
from reid_core.utils.logging import get_logger

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REPEAT_SECONDS = 1.0  # a scheduler and torchrun may both send the same signal: that is one wish


class Interrupted(BaseException):
    """The run was asked to stop; raised after the step, when the state is whole. `signal_number` says by what."""

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class InterruptHook(Hook):
    """On the first signal the present step (or evaluation) is finished, then `Interrupted` is raised.

    The checkpoint hook sees it in `after_train` and saves. A second signal, a second or more later, ends the process at
    once. Called last, so that the other hooks of the step have all run. Several processes agree on the step by asking
    each other every `period` steps. Signals are only caught in the main thread.
    """

    closes = 2

    def __init__(self, device: torch.device, period: int = 1):
        self.device, self.period = device, period
        self._caught: int | None = None
        self._caught_at = 0.0
        self._previous: dict[int, object] = {}

    def before_train(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._catch) for number in _SIGNALS}

    def _catch(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self._caught is None:
            self._caught, self._caught_at = number, now
            os.write(2, b"\nStopping: this step is finished and saved first; once more stops at once.\n")
        elif now - self._caught_at > _REPEAT_SECONDS:
            self._restore()  # a second wish: the signal does what it always did
            os.kill(os.getpid(), number)

    def after_step(self) -> None:
        if comm.world_size() > 1:
            if self.trainer.global_iteration % self.period:
                return
            if not comm.any_process(self._caught is not None, self.device):
                return
            self._caught = self._caught or signal.SIGTERM
        if self._caught is not None:
            get_logger().warning(f"{signal.Signals(self._caught).name}: saving and leaving.")
            raise Interrupted(self._caught)

    def after_epoch(self) -> None:
        self.after_step()

    def after_train(self, failure: BaseException | None) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
