"""What all commands share: how they end, where they write, how several processes find each other."""

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TextIO

import torch.distributed as dist

from reid_core.engine import launch
from reid_core.engine.hooks.interrupt import Interrupted
from reid_core.retrieval.gallery_files import GalleryIndexError
from reid_core.utils.logging import get_logger, setup_logger

USER_ERRORS = (*launch.USER_ERRORS, GalleryIndexError, ImportError)
"""Errors that speak to the user: those of training, and those of galleries and of extras that are not installed."""

_LONGEST_WAIT = timedelta(days=7)  # of a process that has done its share for the others


def command_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """A parser whose help ends with examples."""
    return argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_project_argument(parser: argparse.ArgumentParser) -> None:
    """--project, a list of folders, for a model whose method is not the toolkit's own."""
    parser.add_argument(
        "--project", action="append", default=[], metavar="FOLDER", help="of a method that is not the toolkit's own"
    )


def add_loading_arguments(parser: argparse.ArgumentParser) -> None:
    """What `load` asks for beside the model: --device, --precision, --project."""
    parser.add_argument("--device", default="auto", help="of the model: auto (default), cpu, cuda, cuda:1")
    parser.add_argument(
        "--precision", default="float32", help="of the model: float32 (default), bfloat16, float16, auto"
    )
    add_project_argument(parser)


def run_command(job: Callable[[TextIO], None]) -> int:
    """Run a command's job; returns the exit code: 0, 2 after a user's error, 128 + signal when stopped by one.

    job: gets the stream for its results, the standard output; the log and progress go to the standard error.
    """
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr), _interrupted_by(signal.SIGTERM):
        setup_logger()
        try:
            job(out)
            out.flush()
        except Interrupted as stop:
            get_logger().error("%s", stop)
            return 128 + stop.signal_number
        except KeyboardInterrupt:
            get_logger().error("stopped by SIGINT")
            return 128 + signal.SIGINT
        except BrokenPipeError:  # the reader of the results, such as head, has enough
            with contextlib.suppress(OSError, ValueError):  # a stream that is none of the system's
                os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            return 128 + signal.SIGPIPE
        except USER_ERRORS as error:
            get_logger().error("%s", error)
            get_logger().debug("traceback", exc_info=error)  # for log.txt, where a command has one
            return 2
    return 0


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Within it, the processes that torchrun has started are a group, which exchanges plain data alone."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    dist.init_process_group("gloo", timeout=_LONGEST_WAIT)
    setup_logger()  # from here on only the main process speaks
    yield
    dist.barrier()  # after a failure the others are not waited for: torchrun ends them
    dist.destroy_process_group()


@contextlib.contextmanager
def _interrupted_by(number: signal.Signals) -> Iterator[None]:
    """The signal raises `Interrupted`, so that what is being written is cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    process = os.getpid()

    def stop(caught: int, frame: object) -> None:
        if os.getpid() == process:
            raise Interrupted(caught)
        signal.signal(caught, signal.SIG_DFL)  # a fork, such as a pool's worker, ends as it would without a command
        signal.raise_signal(caught)

    previous = signal.signal(number, stop)
    try:
        yield
    finally:
        signal.signal(number, previous)
