import io
import logging
import sys

import pytest

from reid_core.utils.logging import get_logger, setup_logger
from reid_core.utils.writers import TensorBoardWriter, TerminalWriter


@pytest.fixture(autouse=True)
def _own_logger():
    yield
    for handler in list(get_logger().handlers):
        get_logger().removeHandler(handler)
        handler.close()
    get_logger().propagate = True


def test_a_line_a_row(capsys):
    setup_logger()
    writer = TerminalWriter()
    writer.step("train", 2, 5, 1, 10)
    writer.write({"stage": "train", "epoch": 2, "iteration": 11, "lr": 3.5e-4, "loss_id": 1.23456})
    shown = capsys.readouterr().out
    assert "train epoch 2/5  iteration 11  lr 0.00035  loss_id 1.235" in shown
    writer.write(
        {"stage": "train", "epoch": 2, "iteration": 12, "seconds_per_iteration": 0.5, "data_seconds": 0.1,
         "eta_seconds": 3700.0}
    )  # fmt: skip
    assert "0.500 s/iteration (data 20%)  eta 1:01:40" in capsys.readouterr().out


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    writer = TerminalWriter()
    for iteration in (1, 2, 3):
        writer.step("train", 1, 5, iteration, 3)
    shown = capsys.readouterr().err
    assert "train 1/5" in shown
    assert "0/3" in shown
    assert shown.endswith("\r")  # the bar is wiped when its epoch is done


def test_the_log_file_has_tracebacks_that_the_terminal_has_not(tmp_path, capsys):
    logger = setup_logger(tmp_path)
    try:
        raise ValueError("deep inside")
    except ValueError as error:
        logger.error("%s", error)
        logger.debug("traceback", exc_info=error)
    assert "Traceback" not in capsys.readouterr().out
    assert "Traceback" in (tmp_path / "log.txt").read_text()
    setup_logger(tmp_path)
    assert len(logger.handlers) == 2
    assert logger.level == logging.DEBUG


def test_tensorboard_scalars(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = TensorBoardWriter(tmp_path)
    writer.start(0, resumed=False)
    writer.write({"stage": "train", "epoch": 1, "iteration": 3, "loss_id": 0.25})
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss_id")] == [(3, 0.25)]


def test_names_outside_utf8_reach_file_and_terminal(tmp_path, monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    logger = setup_logger(tmp_path)
    for handler in logger.handlers:
        monkeypatch.setattr(handler, "handleError", lambda record: pytest.fail("the message is lost"))
    logger.warning("%s is broken", "J\u00fcrgen/caf\udce9.jpg")
    assert r"Jürgen/caf\udce9.jpg is broken" in (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert rb"J\xfcrgen/caf\udce9.jpg is broken" in screen.buffer.getvalue()
