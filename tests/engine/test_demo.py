"""The demo at the smallest size: every row of its table, its files, and what it refuses."""

import json
import re

import pytest

from reid_core.config import ConfigError
from reid_core.data.rendering import RenderingOptions, render_dataset
from reid_core.engine import demo
from reid_core.projects import load_config
from reid_core.registry import DATASET_REGISTRY
from tests.conftest import write_small_clip
from tests.paths import ROOT

SMALL = {"test_identities": 5, "cameras": 3, "cameras_per_identity": 2}


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
        options = RenderingOptions(
            layout=layout, height=32, width=32, train_identities=6, images_per_camera=2, **demo.SIZE
        )
        folder = tmp_path / "data" / layout
        render_dataset(folder, options)
        dataset = DATASET_REGISTRY.get(name)(str(folder))
        assert (dataset.name, dataset.kind) == (name, options.kind)


def test_a_dataset_that_cannot_be_rendered(market_config, small_run):
    cfg = load_config(market_config, small_run())
    cfg.DATASETS.TRAIN = ["CUHK03Labeled"]
    with pytest.raises(ConfigError, match="cannot render 'CUHK03Labeled'; it renders Market1501"):
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


@pytest.fixture
def source_config(market_config, tmp_path):
    """A config beside which the source lies; the source's own data and model are as small."""

    def write(**more):
        lines = [f"_BASE_: {market_config}", "DEMO:", "  TRAIN_IDENTITIES: 6", "  IMAGES_PER_CAMERA: 2"]
        lines += [f"  {key}: {value}" for key, value in more.items()]
        lines += [
            "SOLVER:",
            "  MAX_EPOCHS: 1",
            "  ITERATIONS_PER_EPOCH: 2",
            "  WARMUP_EPOCHS: 0",
            "  BASE_LR: 0.1",
            "LOG:",
            "  TENSORBOARD: False",
        ]
        lines += ["DATALOADER:", "  BATCH_SIZE: 8", "  NUM_INSTANCES: 2", "  NUM_WORKERS: 0"]
        lines += ["INPUT:", "  SIZE_TRAIN: [64, 32]", "  SIZE_TEST: [64, 32]"]
        lines += ["MODEL:", "  BACKBONE:", f"    ARCHITECTURE: {tmp_path / 'clip.json'}", "    PRETRAINED: ''"]
        write_small_clip(tmp_path / "clip.json")
        (tmp_path / "source.yml").write_text("\n".join(lines))
        return str(tmp_path / "source.yml")

    return write


def test_a_source_comes_first_on_other_data(market_config, small_run, source_config, tmp_path):
    cfg = load_config(market_config, small_run(DEMO__SOURCE=source_config(), SOLVER__MAX_EPOCHS=1))
    rows = demo.run_demo(cfg, seed=1)
    assert list(rows) == ["colour histogram", "source", "trained"]
    run = tmp_path / "run"
    assert (run / "source" / "report.html").exists()
    data = [next(folder.glob("data-*")) for folder in (run, run / "source")]
    assert [folder.name for folder in data] == ["data-1-64x32", f"data-{1 + demo.SOURCE_SEED}-64x32"]
    images = [sorted((folder / "Market-1501-v15.09.15" / "query").iterdir()) for folder in data]
    assert images[0][0].read_bytes() != images[1][0].read_bytes(), "other persons"
    written = load_config(run / "config.yaml")
    assert written.MODEL.WEIGHTS == str(run / "source" / "checkpoint_00000002.pt")
    assert cfg.MODEL.WEIGHTS == "", "the caller's config stays"
    assert "source/checkpoint_00000002.pt" in (run / "report.html").read_text()
    untrained = demo.run_demo(load_config(market_config, small_run(SOLVER__MAX_EPOCHS=1)), seed=1)
    assert untrained["untrained"] != rows["source"], "its weights are where training starts"


def test_a_source_with_a_source_of_its_own_is_refused(market_config, small_run, source_config):
    cfg = load_config(market_config, small_run(DEMO__SOURCE=source_config(SOURCE="rendered.yml")))
    with pytest.raises(ConfigError, match=r"has a DEMO\.SOURCE of its own; one is enough"):
        demo.run_demo(cfg)


def test_a_source_beside_the_config_is_found_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(ROOT / "projects" / "PCL_CLIP" / "configs" / "rendered_unsupervised.yml")
    assert cfg.DEMO.SOURCE == str(ROOT / "projects" / "PCL_CLIP" / "configs" / "rendered_source.yml")


def test_a_demo_needs_a_test_set(market_config, small_run):
    with pytest.raises(ConfigError, match="DATASETS.TEST is empty"):
        demo.run_demo(load_config(market_config, small_run(DATASETS__TEST=[])))


def test_the_report_shows_pseudo_labels(small_run, tmp_path):
    config = ROOT / "projects" / "PCL_CLIP" / "configs" / "rendered_unsupervised.yml"
    more = {
        "DEMO__SOURCE": "",
        "PCL__CLUSTERING__K1": 4,
        "PCL__CLUSTERING__EPS": 0.6,
        "PCL__CLUSTERING__MIN_SAMPLES": 2,
    }
    demo.run_demo(load_config(config, small_run(**more)), seed=1)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Pseudo labels against the identities" in page
    assert {"NMI", "ARI", "pairwise F", "clusters", "outliers"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", page))
