"""The demo at the smallest size: every row of its table, its files, and what it refuses."""

import json
import re

import pytest

from reid_core.config import ConfigError
from reid_core.data.rendering import RenderingOptions, render_dataset
from reid_core.engine import demo
from reid_core.projects import load_config
from reid_core.registry import DATASET_REGISTRY
from tests.paths import ROOT

SMALL = {"train_identities": 6, "test_identities": 5, "cameras": 3, "cameras_per_identity": 2, "images_per_camera": 2}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(demo, "SIZE", {**SMALL, "distractors": 2})


def test_three_rows_and_the_files(market_config, small_run, tmp_path):
    cfg = load_config(market_config, small_run(SOLVER__MAX_EPOCHS=3, CHECKPOINT__KEEP=1, LOG__TENSORBOARD=True))
    rows = demo.run_demo(cfg, seed=1)
    assert list(rows) == ["colour histogram", "untrained", "trained"]
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {name: written[name] for name in rows} == rows
    assert written["training_seconds"] > 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{rows['trained']['mAP']:.1f}" in page
    assert "data:image/jpeg;base64," in page
    again = demo.run_demo(cfg, seed=1)  # the data are there; the same numbers come out
    assert again == rows

    smaller = load_config(market_config, small_run(SOLVER__MAX_EPOCHS=1, INPUT__SIZE_TRAIN="[96, 48]"))
    smaller.INPUT.SIZE_TEST = [96, 48]
    assert demo.run_demo(smaller, seed=1)["trained"]  # another size in the same folder


def test_every_dataset_of_the_demo_has_a_reader_and_a_layout(tmp_path):
    for name, layout in demo.LAYOUTS.items():
        options = RenderingOptions(layout=layout, height=32, width=32, **demo.SIZE)
        folder = tmp_path / "data" / layout
        render_dataset(folder, options)
        dataset = DATASET_REGISTRY.get(name)(str(folder))
        assert (dataset.name, dataset.kind) == (name, options.kind)


def test_a_dataset_that_cannot_be_rendered(market_config, small_run):
    cfg = load_config(market_config, small_run())
    cfg.DATASETS.TRAIN = ["OccludedDuke"]
    with pytest.raises(ConfigError, match="cannot render 'OccludedDuke'; it renders Market1501"):
        demo.run_demo(cfg)


def test_the_report_shows_the_accuracies_of_an_early_stage(small_run, tmp_path):
    more = {"STAGES__PROMPTS__SOLVER__MAX_EPOCHS": 2, "STAGES__PROMPTS__BATCH_SIZE": 8, "SOLVER__MAX_EPOCHS": 1}
    config = ROOT / "projects" / "CLIP_ReID" / "configs" / "rendered.yml"
    demo.run_demo(load_config(config, small_run(**more)), seed=1)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Right answers in training" in page
    assert {"text_to_image_accuracy", "image_to_text_accuracy", "prompts", "train"} <= set(
        re.findall(r"<text[^>]*>([^<]*)</text>", page)
    )
