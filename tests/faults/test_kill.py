"""kill -9 at random moments, again and again: always a loadable checkpoint, always the same end."""

import multiprocessing
import random
import shutil
import time

import torch

from reid_core.engine.launch import main
from reid_core.modeling.checkpoint import list_checkpoints, read_checkpoint
from tests.paths import ROOT


def _run(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    raise SystemExit(main(arguments))


def _start(arguments):
    """A process forked from a clean server that has imported everything: it starts in no time, without our threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.test_kill"])
    process = context.Process(target=_run, args=(arguments,))
    process.start()
    return process


def _end(folder):
    return read_checkpoint(list_checkpoints(folder)[-1])["model"]


def test_twenty_kills(market_config, small_run, tmp_path):
    assert _kill_again_and_again(market_config, small_run, tmp_path, 20) >= 1


def test_kills_in_both_stages_of_a_method_with_two(small_run, tmp_path):
    config = str(ROOT / "projects" / "CLIP_ReID" / "configs" / "market_vit.yml")
    more = {"STAGES__PROMPTS__SOLVER__MAX_EPOCHS": 8, "STAGES__PROMPTS__BATCH_SIZE": 2}
    assert _kill_again_and_again(config, lambda **keys: small_run(**more, **keys), tmp_path, 8) >= 1


def _kill_again_and_again(config, words, tmp_path, number):
    """Kills runs that go on from each other; asserts that all that end do so as one that was not killed. Returns how
    many ended."""
    common = {
        "SOLVER__MAX_EPOCHS": 3,
        "SOLVER__ITERATIONS_PER_EPOCH": 15,
        "DATALOADER__NUM_WORKERS": 1,
        "CHECKPOINT__ITERATION_PERIOD": 4,
        "TEST__PERIOD": 1,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    reference = _start(["--config-file", config, *words(**common, OUTPUT_DIR=whole)])
    began = time.monotonic()
    reference.join()
    length = time.monotonic() - began
    assert reference.exitcode == 0
    expected = _end(whole)

    arguments = ["--config-file", config, "--resume", *words(**common, OUTPUT_DIR=parts)]
    moments, kills, ends = random.Random(20241), 0, 0
    while kills < number or ends == 0:
        process = _start(arguments)
        process.join(timeout=moments.uniform(0.02, 0.6) * length if kills < number else None)
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
            found = list_checkpoints(parts)
            if found:
                read_checkpoint(found[-1])
            continue
        assert process.exitcode == 0
        ours = _end(parts)
        assert ours.keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in ours.items())
        assert not list(parts.glob(".*"))
        ends += 1
        if kills < number:
            shutil.rmtree(parts)
    return ends
