"""A run that is stopped and resumed ends with the same weights as one that was not, bit for bit."""

import signal
import threading

import pytest
import torch

from reid_core.engine.default_trainer import DefaultTrainer
from reid_core.engine.hooks import Hook
from reid_core.engine.hooks.interrupt import Interrupted
from reid_core.engine.launch import main
from reid_core.modeling.checkpoint import list_checkpoints, read_checkpoint
from reid_core.projects import load_config
from reid_core.utils.writers import read_json_lines


class StopAt(Hook):
    """Ends the run after a step, by an error (as a crash does) or by the signal that a scheduler sends."""

    name = "stop_at"

    def __init__(self, iteration, signal_number=None):
        self.iteration, self.signal_number = iteration, signal_number

    def before_step(self):
        if self.signal_number and self.trainer.global_iteration == self.iteration:
            signal.raise_signal(self.signal_number)

    def after_step(self):
        if self.signal_number is None and self.trainer.global_iteration == self.iteration:
            raise OSError("the machine went away")


def _train(config, words, stop=None, resume=False):
    cfg = load_config(config, words)
    trainer = DefaultTrainer(cfg)
    if stop:
        trainer.hooks.insert(0, (stop, None))
        stop.trainer = trainer
    if resume:
        trainer.resume()
    try:
        trainer.train()
    finally:
        trainer.close()
    return trainer


def _assert_same_end(first, second):
    one, two = (read_checkpoint(list_checkpoints(folder)[-1]) for folder in (first, second))
    assert one["model"].keys() == two["model"].keys()
    for key, value in one["model"].items():
        assert torch.equal(value, two["model"][key]), key
    ours, theirs = (content["trainer"]["step"]["optimizer"]["state"] for content in (one, two))
    for key, state in ours.items():
        assert torch.equal(state["momentum_buffer"], theirs[key]["momentum_buffer"])


def _rows(folder):
    timing = ("seconds_per_iteration", "data_seconds", "eta_seconds")
    rows = read_json_lines(folder / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key not in timing} for row in rows]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop_after", [2, 3, 5])
def test_interrupted_by_a_signal_and_resumed(market_config, small_run, tmp_path, workers, stop_after):
    """Inside the first epoch, at its end, inside the second."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    common = {"DATALOADER__NUM_WORKERS": workers, "SOLVER__MAX_EPOCHS": 2}
    _train(market_config, small_run(**common, OUTPUT_DIR=tmp_path / "whole"))
    words = small_run(**common, OUTPUT_DIR=tmp_path / "parts")
    with pytest.raises(Interrupted, match="SIGTERM"):
        _train(market_config, words, StopAt(stop_after - 1, signal.SIGTERM))
    saved = read_checkpoint(list_checkpoints(tmp_path / "parts")[-1])
    assert saved["trainer"]["global_iteration"] == stop_after
    _train(market_config, words, resume=True)
    _assert_same_end(tmp_path / "whole", tmp_path / "parts")
    assert _rows(tmp_path / "whole") == _rows(tmp_path / "parts")


def test_crash_goes_on_from_the_last_checkpoint(market_config, small_run, tmp_path):
    words = small_run(CHECKPOINT__ITERATION_PERIOD=2, OUTPUT_DIR=tmp_path / "parts")
    _train(market_config, small_run(OUTPUT_DIR=tmp_path / "whole"))
    with pytest.raises(OSError, match="went away"):
        _train(market_config, words, StopAt(3))
    assert read_checkpoint(list_checkpoints(tmp_path / "parts")[-1])["trainer"]["global_iteration"] == 2
    _train(market_config, words, resume=True)
    _assert_same_end(tmp_path / "whole", tmp_path / "parts")
    assert _rows(tmp_path / "whole") == _rows(tmp_path / "parts")


def test_the_command_resumes_a_finished_run_without_training(market_config, small_run, tmp_path, capsys):
    words = small_run()
    assert main(["--config-file", market_config, *words]) == 0
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    assert main(["--config-file", market_config, "--resume", *words]) == 0
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before
    assert "Resumed from" in capsys.readouterr().out


def test_resume_without_a_checkpoint_says_so_and_starts(market_config, small_run, tmp_path, capsys):
    assert main(["--config-file", market_config, "--resume", *small_run(SOLVER__MAX_EPOCHS=1)]) == 0
    assert "no checkpoint" in capsys.readouterr().out


def test_the_written_config_is_a_config_file(market_config, small_run, tmp_path):
    assert main(["--config-file", market_config, *small_run(SOLVER__MAX_EPOCHS=1)]) == 0
    written = tmp_path / "run" / "config.yaml"
    assert load_config(written) == load_config(market_config, small_run(SOLVER__MAX_EPOCHS=1))
    again = ["--config-file", str(written), "OUTPUT_DIR", str(tmp_path / "again")]
    assert main(again) == 0
    _assert_same_end(tmp_path / "run", tmp_path / "again")


def test_with_a_cache_of_decoded_images_the_run_is_the_same(market_config, small_run, tmp_path):
    """Stopped before the cache, resumed with it; and the other way round."""
    common = {"DATALOADER__NUM_WORKERS": 2, "SOLVER__MAX_EPOCHS": 2}
    cached = {"DATALOADER__CACHE_DIR": tmp_path / "cache"}
    _train(market_config, small_run(**common, OUTPUT_DIR=tmp_path / "whole"))
    for name, first, second in (("into", {}, cached), ("out_of", cached, {})):
        words = small_run(CHECKPOINT__ITERATION_PERIOD=2, OUTPUT_DIR=tmp_path / name, **common, **first)
        with pytest.raises(OSError, match="went away"):
            _train(market_config, words, StopAt(3))
        _train(market_config, small_run(OUTPUT_DIR=tmp_path / name, **common, **second), resume=True)
        _assert_same_end(tmp_path / "whole", tmp_path / name)
    assert len(list((tmp_path / "cache").glob("*.images"))) == 4, (
        "query, gallery, and training images to train on and to encode"
    )
