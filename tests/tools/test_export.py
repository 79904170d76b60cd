"""tools/export.py as a user starts it."""

import subprocess
import sys

import pytest

from reid_core.inference.exported_model import ExportedModel
from tests.inference.conftest import train_small
from tests.paths import ROOT


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_small(tmp_path_factory.mktemp("trained"))


def _run(environment, *words):
    command = [sys.executable, str(ROOT / "tools" / "export.py"), *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_exports_compares_scores_and_times(trained, tmp_path, subprocess_environment):
    path = tmp_path / "osnet_x0_25_mine.onnx"
    options = ["--input", "imagenet", "--precision", "int8", "--evaluate", "--benchmark"]
    done = _run(subprocess_environment, trained, path, *options, "TEST.BATCH_SIZE", "5")
    assert done.returncode == 0, done.stderr
    assert "int8, largest difference to PyTorch" in done.stdout
    assert "Market1501, pytorch" in done.stdout
    assert "Market1501, exported" in done.stdout
    assert "images/s" in done.stdout
    metadata = ExportedModel(path).metadata
    assert (metadata["pixels"], metadata["precision"]) == ("imagenet", "int8")


def test_a_wrong_ending_is_one_line_and_code_2(trained, tmp_path, subprocess_environment):
    done = _run(subprocess_environment, trained, tmp_path / "model.bin")
    assert done.returncode == 2
    assert "says no format" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())
