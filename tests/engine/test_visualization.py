"""Reports of a run that takes a second, and of files: what is written, reused and refused."""

import shutil

import numpy as np
import pytest

from reid_core.config import ConfigError
from reid_core.engine import visualization as module
from reid_core.engine.launch import main as train
from reid_core.engine.visualization import config_for_report, report_evaluation, report_features
from reid_core.evaluation.visual_report import PICTURES, ReportOptions
from reid_core.modeling.checkpoint import CheckpointError
from reid_core.utils.writers import read_json_lines
from tests.conftest import SMALL_RUN
from tests.evaluation.test_report import Page
from tests.paths import ROOT

OPTIONS = ReportOptions(queries=2, length=3, identities=4, images=4)


@pytest.fixture(scope="module")
def run(small_market, small_clip, market_config, tmp_path_factory):
    """The OUTPUT_DIR of a run that takes a second."""
    folder = tmp_path_factory.mktemp("visualization") / "run"
    keys = {
        **SMALL_RUN,
        "DATASETS.ROOT": small_market,
        "MODEL.BACKBONE.ARCHITECTURE": small_clip,
        "OUTPUT_DIR": folder,
    }
    assert train(["--config-file", market_config, *(str(word) for pair in keys.items() for word in pair)]) == 0
    return folder


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_checkpoint_with_its_own_config(run, tmp_path, monkeypatch):
    cfg = config_for_report(None, ["MODEL.WEIGHTS", str(run / "best.pt")])
    features = tmp_path / "features.npz"
    (path,) = report_evaluation(cfg, tmp_path / "first", OPTIONS, save_features=features)
    assert names(tmp_path / "first") == {"report.html", *PICTURES}
    page = Page(path.read_text())
    best = max(row["mAP"] for row in read_json_lines(run / "metrics.jsonl") if "mAP" in row)
    assert f"{best:.1f}" in page.texts and "run/best.pt" in page.texts
    assert {"Training", "Attention", "Cameras"} <= set(page.texts)

    monkeypatch.setattr(module.TestSets, "encode", None)  # not called again
    report_evaluation(cfg, tmp_path / "second", OPTIONS, features=features)
    for name in PICTURES:
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_features_of_other_weights_are_told_and_of_another_set_refused(run, tmp_path, caplog):
    cfg = config_for_report(None, ["MODEL.WEIGHTS", str(run / "best.pt")])
    features = tmp_path / "features.npz"
    report_evaluation(cfg, tmp_path / "a", OPTIONS, save_features=features)
    shutil.copy(run / "best.pt", tmp_path / "other.pt")
    other = config_for_report(run / "config.yaml", ["MODEL.WEIGHTS", str(tmp_path / "other.pt")])
    report_evaluation(other, None, OPTIONS, features=features)
    assert f"features of {run / 'best.pt'}, not of MODEL.WEIGHTS" in caplog.text
    assert (tmp_path / "other_report" / "report.html").is_file()  # where nothing else is asked for
    arrays = dict(np.load(features))
    arrays["Market1501/query/pids"][0] += 1
    np.savez(features, **arrays)
    with pytest.raises(ValueError, match="made from another Market1501"):
        report_evaluation(cfg, tmp_path / "b", OPTIONS, features=features)


def test_an_untrained_model(market_config, small_run, tmp_path):
    cfg = config_for_report(market_config, small_run())
    (path,) = report_evaluation(cfg, None, OPTIONS)
    assert path == tmp_path / "run" / "report" / "report.html"
    assert "untrained" in Page(path.read_text()).texts


def test_a_model_without_attention_has_a_report_without_it(run, tmp_path, monkeypatch):
    def refuse(model, batches):
        raise ValueError("The backbone X has no attention to show.")

    monkeypatch.setattr(module, "saliency_maps", refuse)
    cfg = config_for_report(None, ["MODEL.WEIGHTS", str(run / "best.pt")])
    (path,) = report_evaluation(cfg, tmp_path, OPTIONS)
    assert "attention.png" not in names(tmp_path) and "The backbone X has no attention to show." in path.read_text()


def test_a_config_that_is_not_there(run, tmp_path):
    with pytest.raises(ConfigError, match="Name the checkpoint by MODEL.WEIGHTS"):
        config_for_report(None, ["SEED", "1"])
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        config_for_report(None, ["MODEL.WEIGHTS", str(run / "worst.pt")])
    shutil.copy(run / "best.pt", tmp_path)
    with pytest.raises(ConfigError, match=r"There is no .*config.yaml for .*best.pt; add --config-file"):
        config_for_report(None, ["MODEL.WEIGHTS", str(tmp_path / "best.pt")])
    words = ["MODEL.WEIGHTS", str(run / "best.pt"), "TEST.ENSEMBLE_WEIGHTS", "['a.pt']"]
    with pytest.raises(ConfigError, match="a report shows one model"):
        config_for_report(None, words)


def write_features(path, pids, seed, **columns):
    generator = np.random.default_rng(seed)
    features = np.eye(8)[pids] + 0.3 * generator.standard_normal((len(pids), 8))
    np.savez(path, features=features.astype(np.float32), pids=pids, **columns)
    return path


@pytest.mark.parametrize(
    ("cameras", "drawn"),
    [
        ((None, None), {"embedding_identity.png"}),
        ((1, 1), {"embedding_identity.png"}),
        ((2, None), {"embedding_identity.png"}),
        ((3, 3), {"embedding_identity.png", "embedding_camera.png", "cameras.png"}),
    ],
)
def test_features_made_elsewhere_with_few_cameras_or_none(tmp_path, cameras, drawn):
    sides = []
    for side, (pids, count) in enumerate(zip((np.arange(6), np.arange(18) % 6), cameras, strict=True)):
        columns = {} if count is None else {"camids": (np.arange(len(pids)) // 3) % count}
        sides.append(write_features(tmp_path / f"{side}.npz", pids, side, **columns))
    path = report_features(*sides, tmp_path / "out", options=OPTIONS)
    assert names(tmp_path / "out") == {"report.html", "distances.png", *drawn}
    assert "Features of 0.npz against 1.npz" in Page(path.read_text()).texts


def test_two_images_are_enough(tmp_path):
    sides = [write_features(tmp_path / f"{side}.npz", np.array([3]), side) for side in (0, 1)]
    page = Page(report_features(*sides, tmp_path / "out").read_text())
    assert "100.0" in page.texts
    assert names(tmp_path / "out") == {"report.html", "distances.png"}


def test_features_without_a_match_are_refused(tmp_path):
    sides = [write_features(tmp_path / f"{pid}.npz", np.array([pid]), 0) for pid in (1, 2)]
    with pytest.raises(ValueError, match="None of the 1 queries has a true match"):
        report_features(*sides, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_square_images_by_a_resnet_on_two_sets(small_market, market_config, small_run, tmp_path):
    """...of which one does not name its cameras."""
    folder = tmp_path / "root"
    shutil.copytree(small_market, folder)
    own = folder / "own"
    for split, source in (("query", "query"), ("gallery", "bounding_box_test"), ("train", "bounding_box_train")):
        for image in sorted((folder / "Market-1501-v15.09.15" / source).iterdir()):
            place = own / split / image.name[:4]
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, place)
    words = small_run(
        DATASETS__ROOT=folder,
        DATASETS__TEST="['Market1501', 'ImageFolder:own']",
        TEST__CAMERA_RULE=False,
        MODEL__BACKBONE__ARCHITECTURE=ROOT / "configs" / "clip" / "tiny_rn.json",
        INPUT__SIZE_TRAIN="[48, 48]",
        INPUT__SIZE_TEST="[48, 48]",
    )
    reports = report_evaluation(config_for_report(market_config, words), tmp_path / "out", OPTIONS)
    assert [path.parent.name for path in reports] == ["Market1501", "own"]
    assert names(tmp_path / "out" / "Market1501") == {"report.html", *PICTURES}
    assert names(tmp_path / "out" / "own") == {"report.html", *PICTURES} - {"cameras.png", "embedding_camera.png"}
