"""A project from the template: it trains, its own test passes, it is clean; names that cannot be used are refused."""

import re
import shutil
import subprocess
import sys

import pytest

from reid_core.commands.new_project import main
from reid_core.engine.launch import main as train
from reid_core.engine.new_project import TEMPLATE, make_project, model_name
from reid_core.projects import load_config
from reid_core.utils.file_io import atomic_folder
from tests.paths import ROOT

NAMES = ["made_one", "A", "PCL_X", "x" * 30, "a_b_c_1"]


def test_it_trains_at_once(tmp_path, small_run, capsys):
    assert main(["trained_one", "--folder", str(tmp_path / "projects")]) == 0
    shown = capsys.readouterr().out
    config = tmp_path / "projects" / "trained_one" / "configs" / "rendered.yml"
    assert f"--config-file {config}" in shown
    words = small_run(SOLVER__MAX_EPOCHS=1, TRAINED_ONE__COMPACTNESS_WEIGHT=0.5)
    assert train(["--config-file", str(config), *words]) == 0
    assert "loss_compactness" in (tmp_path / "run" / "metrics.jsonl").read_text()
    cfg = load_config(config)
    assert cfg.MODEL.META_ARCHITECTURE == "TrainedOneModel"
    assert cfg.MODEL.BACKBONE.ARCHITECTURE == str(config.parent / "tiny_vit.json")


def test_its_own_test_passes(tmp_path, subprocess_environment):
    path = make_project("tested_one", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{path}/tests"]
    done = subprocess.run(command, cwd=tmp_path, env=subprocess_environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b[1-9]\d* passed", done.stdout)


def test_it_is_clean_by_the_toolkits_own_rules(tmp_path):
    """In a folder like the toolkit's: where `reid_core` lies beside `projects`, ruff takes both for one's own."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "reid_core").symlink_to(ROOT / "reid_core")
    for name in NAMES:
        make_project(name, tmp_path / "projects")
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "projects"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_of_the_template_is_made_and_nothing_waits_to_be_filled_in(tmp_path):
    path = make_project("filled_one", tmp_path)
    assert len([file for file in path.rglob("*") if file.is_file()]) == len(list(TEMPLATE.rglob("*.template")))
    for file in path.rglob("*.*"):
        assert "$" not in file.read_text(), file
    assert (path / "tests" / "test_filled_one.py").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-method", "Python can import"),
        ("1st", "Python can import"),
        ("", "Python can import"),
        ("_hidden", "Python can import"),
        ("../out", "Python can import"),
        ("class", "Python can import"),
        ("méthode", "Python can import"),
        ("y" * 31, "at most 30 characters, got 31"),
        ("model", "config group MODEL"),
        ("baseline", "'Baseline' is registered"),
        ("PCL_CLIP", "exists; choose another name"),
    ],
)
def test_names_that_cannot_be_used(tmp_path, capsys, name, message):
    assert main([name, "--folder", str(tmp_path / "projects")]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "projects").exists()


def test_what_is_there_is_left_alone(tmp_path, capsys):
    path = make_project("kept_one", tmp_path)
    (path / "model.py").write_text("mine")
    assert main(["kept_one", "--folder", str(tmp_path)]) == 2
    assert "kept_one exists" in capsys.readouterr().err
    assert (path / "model.py").read_text() == "mine"


def test_a_failure_leaves_no_half_of_a_project(tmp_path, monkeypatch, capsys):
    def full_disk(path):
        context = atomic_folder(path)
        new = context.__enter__()
        error = OSError(28, "No space left on device", str(new))
        context.__exit__(OSError, error, None)
        raise error

    monkeypatch.setattr("reid_core.engine.new_project.atomic_folder", full_disk)
    assert main(["half_one", "--folder", str(tmp_path)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "my_method --folder" in capsys.readouterr().out


def test_names_of_models():
    assert [model_name(name) for name in ("my_method", "CLIP_ReID", "a__b_")] == [
        "MyMethodModel",
        "CLIPReIDModel",
        "ABModel",
    ]
