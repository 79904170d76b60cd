"""Model folders: small, whole, portable, and the checkpoint's features."""

import json
import multiprocessing
import os
import runpy
import shutil
import signal
import sys

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from safetensors import safe_open

import reid_core as reid
from reid_core.inference import model_folder
from reid_core.inference.model_folder import results_by_dataset
from reid_core.modeling.checkpoint import CheckpointError, read_checkpoint
from tests.paths import ROOT

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def packed(checkpoint, tmp_path_factory):
    return reid.save_model_folder(checkpoint, tmp_path_factory.mktemp("packed") / "model", license="mit")


def test_the_same_features_from_a_folder_that_was_moved(checkpoint, packed, tmp_path):
    moved = shutil.copytree(packed, tmp_path / "elsewhere")
    features = reid.load(moved, device="cpu").encode(IMAGES)
    assert np.array_equal(features, reid.load(checkpoint, device="cpu").encode(IMAGES))


def test_side_information_comes_along(camera_checkpoint, tmp_path):
    model = reid.load(reid.save_model_folder(camera_checkpoint, tmp_path / "model"), device="cpu")
    assert model.camera_offsets == {"Market1501": 0}
    features = reid.load(camera_checkpoint, device="cpu").encode(IMAGES, camids=[0, 1, -1])
    assert np.array_equal(model.encode(IMAGES, camids=[0, 1, -1]), features)


def test_only_what_the_features_need_is_in_it(checkpoint, packed):
    assert sorted(path.name for path in packed.iterdir()) == sorted(model_folder.FILES)
    with safe_open(packed / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    trained = set(read_checkpoint(checkpoint)["model"])
    assert trained - names == {"heads.classifier.weight", "memory.prototypes"}
    assert names < trained


def test_no_file_tells_of_the_machine(checkpoint, packed):
    for path in packed.iterdir():
        if path.suffix != ".safetensors":
            text = path.read_text()
            assert str(checkpoint.parents[1]) not in text
            assert str(ROOT) not in text
    config = yaml.safe_load((packed / "config.yml").read_text())
    assert config["PROJECTS"] == ["PCL_CLIP"]
    assert config["MODEL"]["BACKBONE"]["ARCHITECTURE"] == "architecture.json"


def test_the_card_is_one_of_the_hubs(checkpoint, packed):
    card = ModelCard.load(packed / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag, card.data.license) == (
        "reid-core",
        "image-feature-extraction",
        "mit",
    )
    results = read_checkpoint(checkpoint)["results"]
    assert json.loads((packed / "metrics.json").read_text()) == {"Market1501": results}
    assert {row.metric_type: row.metric_value for row in card.data.eval_results} == {
        name: round(value, 2) for name, value in results.items()
    }
    assert f"{results['mAP']:.1f}" in card.text
    assert "person" in card.text


def test_without_a_licence_the_card_leaves_it_open(checkpoint, tmp_path):
    card = ModelCard.load(reid.save_model_folder(checkpoint, tmp_path / "model") / "README.md")
    assert card.data.license is None
    assert "Not chosen yet" in card.text


@pytest.mark.parametrize(
    ("flat", "names", "expected"),
    [
        ({}, ["A"], {}),
        ({"mAP": 1.0, "reranked/mAP": 2.0}, ["A"], {"A": {"mAP": 1.0, "reranked/mAP": 2.0}}),
        (
            {"A/mAP": 1.0, "B/reranked/mAP": 2.0, "mAP": 1.5},
            ["A", "B"],
            {"A": {"mAP": 1.0}, "B": {"reranked/mAP": 2.0}},
        ),
    ],
)
def test_results_by_dataset(flat, names, expected):
    assert results_by_dataset(flat, names) == expected


def test_an_earlier_folder_is_replaced_and_another_is_not(checkpoint, packed, tmp_path):
    again = shutil.copytree(packed, tmp_path / "model")
    (again / "README.md").write_text("an older card")
    reid.save_model_folder(checkpoint, again)
    assert ModelCard.load(again / "README.md").data.model_name == "model"
    (again / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        reid.save_model_folder(checkpoint, again)
    assert (again / "thesis.tex").read_text() == "years of work"
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(FileExistsError, match="is a file"):
        reid.save_model_folder(checkpoint, file)


def test_a_failed_write_leaves_the_old_folder(checkpoint, packed, tmp_path, monkeypatch):
    folder = shutil.copytree(packed, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(path, results):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, "save_results", fail)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(OSError, match="No space left"):
            reid.save_model_folder(checkpoint, target)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_killed_write_leaves_no_half_of_a_folder(checkpoint, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(model_folder, "save_results", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        context = multiprocessing.get_context("fork")  # with one thread, as the tests run
        process = context.Process(target=reid.save_model_folder, args=(checkpoint, tmp_path / "model"))
        process.start()
        process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "model").exists()
    reid.save_model_folder(checkpoint, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("config.yml", None, "config.yml missing"),
        ("model.safetensors", None, "model.safetensors missing"),
        ("model.safetensors", b"nonsense", "is damaged"),
        ("config.yml", b"a: [", "is damaged"),
        ("config.yml", b"- 1", "must hold 'KEY: value' pairs"),
    ],
)
def test_damaged_folders(packed, tmp_path, file, content, text):
    folder = shutil.copytree(packed, tmp_path / "model")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises((CheckpointError, ValueError), match=text):
        reid.load(folder)


@pytest.fixture
def pack(monkeypatch, capsys):
    """pack(*words) -> (exit code, the command's result, its log)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["pack_model.py", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "tools" / "pack_model.py"), run_name="__main__")
        shown = capsys.readouterr()
        return stop.value.code, shown.out, shown.err

    return run


def test_the_command(checkpoint, tmp_path, pack):
    code, result, _ = pack(checkpoint, tmp_path / "model", "--name", "mine")
    assert (code, result) == (0, f"{tmp_path / 'model'}\n")
    assert ModelCard.load(tmp_path / "model" / "README.md").data.model_name == "mine"
    code, result, log = pack(tmp_path / "gone.pt", tmp_path / "x")
    assert (code, result, len(log.splitlines())) == (2, "", 1)
    assert "There is no checkpoint" in log
