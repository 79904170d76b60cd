"""From folders and lists of crops to trained models and tables, by config alone."""

import csv
import json
import shutil

import pytest

from reid_core.config import ConfigError
from reid_core.data.training_set import TrainingSet
from reid_core.engine import launch
from reid_core.engine.default_trainer import DefaultTrainer
from reid_core.engine.test_sets import build_datasets
from reid_core.projects import load_config
from reid_core.utils.logging import get_logger
from tests.paths import ROOT

CONFIGS = ROOT / "configs" / "own_data"
SPLITS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


@pytest.fixture(autouse=True)
def _logger_as_it_was():
    """The commands set the log up for a terminal, which other tests' records would not reach pytest through."""
    logger = get_logger()
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.level, logger.propagate, logger.handlers[:] = before


@pytest.fixture(scope="module")
def own(small_market, tmp_path_factory):
    """DATASETS.ROOT with the tiny Market-1501's images as folders `shop`, and lists `crops.csv` and `street.csv`, whose
    images are those of the first three identities."""
    root = tmp_path_factory.mktemp("own")
    rows = []
    for split, folder in SPLITS.items():
        for path in sorted((small_market / "Market-1501-v15.09.15" / folder).iterdir()):
            pid, camera = path.name.split("_")[:2]
            copy = root / "shop" / split / pid / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
            rows.append([copy.relative_to(root), f"nr {pid}", camera[1], split])
    few = {split: sorted({row[1] for row in rows if row[3] == split})[:3] for split in SPLITS}
    for name, chosen in {"crops": rows, "street": [row for row in rows if row[1] in few[row[3]]]}.items():
        with (root / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["path", "pid", "camid", "split"], *chosen])
    return root


def run(config, words, *options):
    return launch.main(["--config-file", str(CONFIGS / f"{config}.yml"), *options, *words])


@pytest.mark.parametrize("config", ["image_folder", "manifest"])
def test_the_examples_train_resume_and_evaluate(own, small_run, tmp_path, config):
    words = small_run(DATASETS__ROOT=own, SOLVER__MAX_EPOCHS=1)
    assert run(config, words) == 0
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())
    name = {"image_folder": "shop", "manifest": "crops"}[config]
    assert list(results) == [name] and results[name]["mAP"] > 40, "the tiny set's identities have colours"
    saved = str(tmp_path / "run" / "best.pt")
    assert run(config, [*words, "MODEL.WEIGHTS", saved], "--eval-only") == 0
    again = json.loads((tmp_path / "run" / "eval_metrics.json").read_text())
    assert again == results


def test_folder_and_list_of_the_same_images_give_the_same_labels_and_cameras(own, small_run):
    cfg = load_config(CONFIGS / "image_folder.yml", small_run(DATASETS__ROOT=own))
    folder, listed = build_datasets(cfg, ["ImageFolder:shop", "Manifest:crops.csv"]).values()
    for split in SPLITS:
        one, two = getattr(folder, split), getattr(listed, split)
        assert sorted(one) == sorted(two) and len(one)
    assert listed.pid_values == tuple(f"nr {pid}" for pid in folder.pid_values)


def test_several_train_apart_and_each_test_set_has_its_row(own, small_market, small_run, tmp_path, capsys):
    (tmp_path / "root").mkdir()
    for path in [*own.iterdir(), small_market / "Market-1501-v15.09.15"]:
        (tmp_path / "root" / path.name).symlink_to(path)
    entries = ["Manifest:street.csv", "Market1501", "Manifest:crops.csv"]
    words = small_run(
        DATASETS__ROOT=tmp_path / "root",
        DATASETS__TRAIN=entries[:2],
        DATASETS__TEST=[*entries, "ImageFolder:shop"],
        SOLVER__MAX_EPOCHS=1,
    )
    cfg = load_config(CONFIGS / "image_folder.yml", words)
    trainer = DefaultTrainer(cfg)
    data = trainer.training_set
    trainer.close()
    assert data.label_map == [f"Market1501:{pid}" for pid in range(2, 8)] + [
        f"street:nr {pid:04d}" for pid in (2, 3, 4)
    ]
    assert data.camera_offsets == {"Market1501": 0, "street": 2} and data.num_cameras == 4
    street = ["street" in data.label_map[target] for target in data.targets.tolist()]
    assert sum(street) == 12 and len(street) == 36
    for own_image, camera in zip(street, data.camids.tolist(), strict=True):
        assert (camera >= 2) == own_image
    assert trainer.test_sets.camera_offsets == {"Market1501": 0, "street": 2}
    assert run("image_folder", words) == 0
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(results) == ["street", "Market1501", "crops", "shop"]
    assert results["crops"] == results["shop"] == results["Market1501"], "the same images under three names"
    lines = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[-4:] == ["street", "Market1501", "crops", "shop"]


def test_a_test_set_without_cameras_counts_every_match(own, small_run, tmp_path):
    words = small_run(DATASETS__ROOT=own, SOLVER__MAX_EPOCHS=1, DATASETS__OWN_DATA__PATTERN="")
    assert run("image_folder", words) == 0
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert results["shop"]["mAP"] > 40


def test_training_needs_no_test_images(own, small_run, tmp_path, capsys):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "train").symlink_to(own / "shop" / "train")
    entry = f"['ImageFolder:{tmp_path / 'alone'}']"
    words = small_run(DATASETS__ROOT=own, DATASETS__TRAIN=entry, DATASETS__TEST=entry, SOLVER__MAX_EPOCHS=1)
    assert run("image_folder", words) == 2
    assert "alone has no query and no gallery images, which DATASETS.TEST needs" in capsys.readouterr().out
    assert run("image_folder", [*words, "DATASETS.TEST", "[]"]) == 0
    assert (tmp_path / "run" / "checkpoint_00000003.pt").exists()


def test_a_set_without_training_images_is_not_trained_on(own, small_run, tmp_path):
    for split in ("query", "gallery"):
        (tmp_path / "probes").mkdir(exist_ok=True)
        (tmp_path / "probes" / split).symlink_to(own / "shop" / split)
    entry = f"['ImageFolder:{tmp_path / 'probes'}']"
    words = small_run(DATASETS__ROOT=own, DATASETS__TRAIN=entry, DATASETS__TEST=entry)
    cfg = load_config(CONFIGS / "image_folder.yml", words)
    assert list(build_datasets(cfg, cfg.DATASETS.TEST)) == ["probes"]
    with pytest.raises(ConfigError, match="probes has no train images, which DATASETS.TRAIN needs"):
        DefaultTrainer(cfg)


def test_two_of_one_name_are_refused(own, small_run):
    cfg = load_config(CONFIGS / "image_folder.yml", small_run(DATASETS__ROOT=own))
    entries = ["Manifest:crops.csv", f"Manifest:{own / 'crops.csv'}"]
    with pytest.raises(ConfigError, match=r"'Manifest:crops\.csv' and 'Manifest:/.*' have one name"):
        build_datasets(cfg, entries)
    assert list(build_datasets(cfg, entries[:1] * 2)) == ["crops"]


def test_camera_embeddings_need_named_cameras(own, small_run):
    words = small_run(
        DATASETS__ROOT=own, DATASETS__OWN_DATA__PATTERN="", MODEL__BACKBONE__SIE_CAMERA=True, SOLVER__MAX_EPOCHS=1
    )
    with pytest.raises(ConfigError, match="shop names no cameras"):
        DefaultTrainer(load_config(CONFIGS / "image_folder.yml", words))


def test_images_without_identities_are_left_out(own, small_run, tmp_path):
    rows = (own / "crops.csv").read_text().replace("nr 0002,", ",").replace("shop/", f"{own}/shop/")
    (tmp_path / "part.csv").write_text(rows)
    cfg = load_config(CONFIGS / "manifest.yml", small_run(DATASETS__ROOT=tmp_path))
    (dataset,) = build_datasets(cfg, ["Manifest:part.csv"]).values()
    data = TrainingSet([dataset])
    assert (data.targets == -1).sum() == 4 and data.num_identities == 5
