"""The command: exit codes, what is printed, one line for what is wrong."""

import os

import pytest
import torch

from reid_core.commands.convert_checkpoint import main
from reid_core.modeling.checkpoint import read_checkpoint
from reid_core.modeling.meta_arch import build_model
from reid_core.projects import load_config


class MakesAFolder:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def command(capsys):
    """command(*words) -> exit code and what was printed; in this process, as imports take seconds."""

    def run(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def test_a_file_that_wants_to_run_code(command, market_config, small_run, tmp_path):
    model = build_model(load_config(market_config, small_run()), "cpu", 4, 1, 1)
    state = {
        name.replace("backbone.visual.", "image_encoder.").removeprefix("heads."): value
        for name, value in model.state_dict().items()
        if name.startswith(("backbone.visual.", "heads."))
    }
    torch.save({"state_dict": state, "evil": MakesAFolder(tmp_path / "made")}, tmp_path / "theirs.pth")
    words = [tmp_path / "theirs.pth", tmp_path / "a.pt", "--config-file", market_config]
    code, printed = command(*words, *small_run())
    assert code == 2
    assert "--unsafe" in printed and "Traceback" not in printed
    assert not (tmp_path / "a.pt").exists() and not (tmp_path / "made").exists()
    code, printed = command(*words, "--unsafe", "--report", tmp_path / "told.txt", *small_run())
    assert code == 0, printed
    assert (tmp_path / "made").exists()
    assert (tmp_path / "told.txt").read_text() in printed
    assert torch.equal(
        read_checkpoint(tmp_path / "a.pt")["model"]["heads.classifier.weight"], state["classifier.weight"]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.pt", "b.pt"], "--config-file is needed"),
        (["a.pt", "b.safetensors", "--from", "clip", "--unsafe"], "--unsafe is not for CLIP weights"),
        (["gone.pt", "b.safetensors", "--from", "clip"], "There is no weights file gone.pt"),
    ],
)
def test_wrong_words(command, words, message):
    code, printed = command(*words)
    assert code == 2
    assert message in printed
