"""How every command ends: its exit code, and where it writes."""

import importlib
import os
import pkgutil
import signal
import time

import pytest

from reid_core import commands
from reid_core.commands.running import run_command
from reid_core.retrieval.gallery_files import GalleryIndexError
from reid_core.utils.logging import get_logger

pytestmark = pytest.mark.usefixtures("logger_as_it_was")

COMMANDS = sorted({module.name for module in pkgutil.iter_modules(commands.__path__)} - {"running"})


def test_results_go_to_the_standard_output_and_the_log_elsewhere(capsys):
    def job(out):
        get_logger().warning("a warning")
        out.write("a result\n")

    assert run_command(job) == 0
    shown = capsys.readouterr()
    assert shown.out == "a result\n"
    assert "a warning" in shown.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("the value 7"), 2),
        (FileNotFoundError("no file"), 2),
        (GalleryIndexError("no gallery"), 2),
        (ImportError("pip install it"), 2),
        (KeyboardInterrupt(), 128 + signal.SIGINT),
        (BrokenPipeError(), 128 + signal.SIGPIPE),
    ],
)
def test_errors_of_the_user_have_code_2_and_one_line(capsys, error, code):
    def job(out):
        raise error

    assert run_command(job) == code
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err and str(error) in shown.err


def test_our_own_errors_are_not_hidden():
    def job(out):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_command(job)


def test_sigterm_ends_with_its_code_and_the_handler_is_given_back():
    before = signal.getsignal(signal.SIGTERM)

    def job(out):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    assert run_command(job) == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_of_a_fork_ends_the_fork_alone(capfd):
    def job(out):
        child = os.fork()
        if child == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            finally:
                os._exit(1)
        out.write(f"{os.WTERMSIG(os.waitpid(child, 0)[1])}\n")

    assert run_command(job) == 0
    shown = capfd.readouterr()
    assert shown.out == f"{int(signal.SIGTERM)}\n" and "Traceback" not in shown.err


def main_of(command):
    return importlib.import_module(f"reid_core.commands.{command}").main


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main_of(command)(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:\n  " in shown or "example:\n  " in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_arguments_have_code_2(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main_of(command)(["--no-such-option"])
    assert ended.value.code == 2
