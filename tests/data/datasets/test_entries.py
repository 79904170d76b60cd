import pytest

from reid_core.config import ConfigError, get_cfg
from reid_core.data.datasets import build_dataset, dataset_kind, dataset_name, require_splits
from reid_core.registry import UnknownNameError
from tests.data.conftest import touch


@pytest.mark.parametrize(
    ("entry", "name", "kind"),
    [
        ("Market1501", "Market1501", "person"),
        ("VeRi776", "VeRi776", "vehicle"),
        ("Manifest:lists/crops.v2.csv", "crops.v2", "vehicle"),
        ("ImageFolder:/data/site.a/", "site.a", "vehicle"),
    ],
)
def test_name_and_kind(entry, name, kind):
    cfg = get_cfg()
    cfg.DATASETS.OWN_DATA.KIND = "vehicle"
    assert dataset_name(entry) == name and dataset_kind(cfg, entry) == kind


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("Manifest", ConfigError, "needs a path"),
        ("ImageFolder:", ConfigError, "needs a path"),
        ("Market1501:x", ConfigError, "Market1501 takes no path"),
        ("Manifst:x.csv", UnknownNameError, "Did you mean 'Manifest'"),
        ("crops.csv", UnknownNameError, "Registered: .*Manifest"),
    ],
)
def test_entries_that_mean_nothing(entry, error, message):
    with pytest.raises(error, match=message):
        dataset_name(entry)


def test_the_config_reaches_the_reader(tmp_path):
    touch(tmp_path, ["shop/train/x1.jpg", "crops/x1.jpg"])
    (tmp_path / "crops.csv").write_text("path,pid\ngone.jpg,1\n")
    cfg = get_cfg()
    cfg.DATASETS.ROOT = str(tmp_path)
    cfg.DATASETS.OWN_DATA.merge_from_list(
        ["KIND", "vehicle", "PATTERN", "x(?P<camid>.)", "UNLABELLED", "True", "CHECK_FILES", "False"]
    )
    folder, manifest = build_dataset(cfg, "ImageFolder:shop"), build_dataset(cfg, "Manifest:crops.csv")
    assert folder.kind == manifest.kind == "vehicle" and folder.camid_values == ("1",)
    assert folder.train.pids.tolist() == [-1] and manifest.train.pids.tolist() == [0]
    with pytest.raises(ConfigError, match="shop has no query and no gallery images, which DATASETS.TEST needs"):
        require_splits(folder, ("query", "gallery"), "DATASETS.TEST")
    require_splits(folder, ("train",), "DATASETS.TRAIN")
