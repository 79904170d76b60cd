"""The processes that decode images: torch's DataLoader over tasks, with errors that a person can act on."""

import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from reid_core.data.worker import Failure, ImageFiles, Loaded, Task, raise_failure, start_worker

STALL_SECONDS = 600  # a batch that takes longer is a hang (a dead network drive, a stuck process), not slowness


class LoaderError(RuntimeError):
    """A process that decodes images died or hangs; the text says what to do."""


class _TaskQueue:
    """The tasks that a DataLoader hands to its workers; set anew before each pass over it."""

    tasks: Iterable[Task] = ()

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)


class WorkerPool:
    """A torch DataLoader over tasks, with our errors. Its workers live until `close`, or for one pass."""

    def __init__(
        self, files: ImageFiles, num_workers: int, prefetch_factor: int, pin_memory: bool, persistent_workers: bool
    ):
        """Raises ValueError for a negative number of workers, and for workers that prepare nothing ahead."""
        if num_workers < 0:
            raise ValueError(f"DATALOADER.NUM_WORKERS must not be negative, got {num_workers}.")
        if num_workers and prefetch_factor < 1:
            raise ValueError(f"DATALOADER.PREFETCH_FACTOR must be positive, got {prefetch_factor}.")
        self._queue = _TaskQueue()
        self._loader: DataLoader | None = None
        self._iterator: Iterator[Loaded | Failure] | None = None
        self._workers: list[multiprocessing.process.BaseProcess] = []
        self._pass = 0
        self._files = files
        self._options: dict[str, Any] = {"num_workers": num_workers, "pin_memory": pin_memory}
        if num_workers:
            self._options |= {
                "prefetch_factor": prefetch_factor,
                "persistent_workers": persistent_workers,
                "worker_init_fn": start_worker,
                "multiprocessing_context": _start_method(),
                "timeout": STALL_SECONDS,
            }

    def run(self, tasks: Iterable[Task]) -> Iterator[Loaded]:
        """The prepared batches, in order.

        Raises what a worker raised, RuntimeError if one died or hangs; the workers then end, and a later pass starts
        new ones.
        """
        self._pass += 1
        mine, self._queue.tasks = self._pass, tasks
        try:
            self._start()
            while loaded := self._wait(lambda: next(self._iterator, None)):
                if isinstance(loaded, Failure):
                    raise_failure(loaded)
                yield loaded
                if mine != self._pass:
                    raise RuntimeError("This pass was ended by a later one, or by close(), on the same loader.")
        except Exception:
            if mine == self._pass:
                self.close()  # at once: left to the garbage collector, workers take seconds to notice
            raise
        finally:
            if mine == self._pass:
                self._iterator = None  # workers that live for one pass end here, also when it is left early

    def close(self) -> None:
        """End the workers."""
        self._loader = self._iterator = None
        self._workers = []
        self._pass += 1

    def _start(self) -> None:
        if self._loader is None:
            self._loader = DataLoader(
                self._files,
                batch_size=None,  # a task is a whole batch already
                sampler=self._queue,
                collate_fn=_unchanged,
                generator=torch.Generator(),  # the DataLoader draws a number a pass: not from the global generator
                **self._options,
            )
        if not self._options.get("persistent_workers"):
            self._workers = []
        others = multiprocessing.active_children()
        self._iterator = self._wait(lambda: iter(self._loader))
        self._workers += [process for process in multiprocessing.active_children() if process not in others]
        if self._options["num_workers"]:
            _hear_of_dead_workers_only_while_waiting()

    def _wait(self, step: Callable[[], Any]) -> Any:
        """`step()`, with errors about the processes in words that say what to do."""
        global _waiting
        _waiting = True
        try:
            dead = [process for process in self._workers if process.exitcode is not None]
            if dead:
                raise _died(f"process {dead[0].pid}, exit code {dead[0].exitcode}")
            return step()
        except RuntimeError as error:
            reason = str(error).rstrip(". ")
            if "DataLoader worker" in reason:
                raise _died(reason) from None
            if "DataLoader timed out" in reason:
                raise LoaderError(
                    f"The processes that decode images gave no batch for {self._options['timeout']} seconds. Most "
                    "often the drive that holds the images no longer answers; if it does, try "
                    "DATALOADER.NUM_WORKERS 0 to see where it stops."
                ) from None
            raise
        finally:
            _waiting = False


_waiting = False  # whether the training process is just then waiting for a worker


def _hear_of_dead_workers_only_while_waiting() -> None:
    """Put torch's handler of SIGCHLD behind one that calls it only while a pool waits.

    Torch raises the death of a worker from that handler, in the middle of whatever the program is doing, in words
    that say little. Deaths at other times are noticed at the next wait.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return
    behind = signal.getsignal(signal.SIGCHLD)
    if getattr(behind, "__module__", None) != signal_handling.__name__:
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if _waiting:
            behind(number, frame)

    signal.signal(signal.SIGCHLD, handle)


def _died(how: str) -> LoaderError:
    return LoaderError(
        f"A process that decodes images died ({how}). Most often the machine ran out of memory, or of shared memory "
        "(/dev/shm): lower DATALOADER.NUM_WORKERS or DATALOADER.PREFETCH_FACTOR, or give the container more."
    )


def _start_method() -> multiprocessing.context.BaseContext | None:
    """Fork on Linux, where it is the rule: workers start at once, share the table of paths and take any transform.

    Threads may exist and compute; only one that is just then drawing from torch's global generator would leave its
    lock closed in the worker, which ends as a stall. Elsewhere Python's default.
    """
    return multiprocessing.get_context("fork") if sys.platform == "linux" else None


def _unchanged(loaded: Loaded | Failure) -> Loaded | Failure:
    return loaded
