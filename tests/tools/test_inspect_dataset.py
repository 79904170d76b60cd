"""tools/inspect_dataset.py in this process: what it prints, and its exit codes."""

import importlib.util
import sys

import pytest

from reid_core.utils.logging import get_logger
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def _logger_as_it_was():
    """The commands set the log up for a terminal, which other tests' records would not reach pytest through."""
    logger = get_logger()
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.level, logger.propagate, logger.handlers[:] = before


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("inspect_dataset", ROOT / "tools" / "inspect_dataset.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_a_dataset_with_a_broken_file(command, small_market, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "Market-1501-v15.09.15"
    copy.mkdir()
    for folder in (small_market / copy.name).iterdir():
        (copy / folder.name).mkdir()
        for image in folder.iterdir():
            (copy / folder.name / image.name).symlink_to(image)
    broken = sorted((copy / "query").iterdir())[0]
    broken.unlink()
    broken.write_bytes(b"not an image")
    words = ["--dataset", "Market1501", "--contact-sheet", str(tmp_path / "sheet.png"), "DATASETS.ROOT", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["inspect_dataset.py", *words])
    assert command() == 0
    shown = capsys.readouterr().out
    assert "| train   | 24       | 6 " in shown and "1 images cannot be used:" in shown and broken.name in shown
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "Market1500"], "Did you mean 'Market1501'"),
        (["--dataset", "Manifest:gone.csv"], "gone.csv does not exist"),
        (["--dataset", "Market1501", "DATASETS.ROT", "x"], "Did you mean 'DATASETS.ROOT'"),
    ],
)
def test_a_users_error_ends_with_code_2(command, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["inspect_dataset.py", *words])
    assert command() == 2
    assert message in capsys.readouterr().out


def test_help_has_examples(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["inspect_dataset.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 0 and "--dataset Manifest:shop/crops.csv" in capsys.readouterr().out
