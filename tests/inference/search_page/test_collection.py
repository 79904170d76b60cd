"""What is searched: names, numbers, and what is unknown."""

import numpy as np
import pytest
from PIL import Image

from reid_core.config import ConfigError, get_cfg
from reid_core.data.datasets import build_dataset
from reid_core.inference.search_page.collection import collection_of_dataset, collection_of_folder


def write_images(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 4, 3), np.uint8)).save(folder / name)


def own_dataset(folder, pattern=""):
    cfg = get_cfg()
    cfg.DATASETS.ROOT, cfg.DATASETS.OWN_DATA.PATTERN = str(folder.parent), pattern
    return build_dataset(cfg, f"ImageFolder:{folder.name}")


def test_a_published_dataset(collection, market):
    assert collection.name == "Market1501"
    assert [record.path for record in collection.gallery] == [record.path for record in market.gallery]
    assert len(collection.query) == 4
    record = collection.query[0]
    assert (collection.identity(record), collection.camera(record.camid)) == ("100", "1")
    assert collection.gallery_cameras() == [0, 1]


def test_own_data_keep_their_names(tmp_path):
    write_images(tmp_path / "shop", ["query/anna/c7.png", "gallery/anna/c9.png", "gallery/bert/c7.png"])
    found = collection_of_dataset(own_dataset(tmp_path / "shop", "(?P<camid>c[0-9])"))
    assert [found.identity(record) for record in found.gallery] == ["anna", "bert"]
    assert [found.camera(record.camid) for record in found.gallery] == ["c9", "c7"]
    assert [found.camera(camid) for camid in found.gallery_cameras()] == ["c7", "c9"]


def test_cameras_that_are_not_known_are_not_shown(tmp_path):
    write_images(tmp_path / "shop", ["query/anna/1.png", "gallery/anna/2.png"])
    found = collection_of_dataset(own_dataset(tmp_path / "shop"))
    assert found.gallery.camids.tolist() == found.query.camids.tolist() == [-1]
    assert found.gallery_cameras() == [] and found.camera(-1) is None
    assert found.identity(found.gallery[0]) == "anna"


def test_a_folder_is_sorted_and_knows_nothing_of_its_images(tmp_path):
    write_images(tmp_path / "crops", ["b/1.png", "a.png", "b/0.jpg"])
    (tmp_path / "crops" / "notes.txt").write_text("no image")
    found = collection_of_folder(tmp_path / "crops")
    assert [found.gallery.paths.relative(place) for place in range(3)] == ["a.png", "b/0.jpg", "b/1.png"]
    assert found.name == "crops" and not len(found.query)
    assert found.identity(found.gallery[0]) is None and found.camera(found.gallery[0].camid) is None


def test_what_cannot_be_searched_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder .*gone"):
        collection_of_folder(tmp_path / "gone")
    with pytest.raises(ValueError, match="holds no image"):
        collection_of_folder(tmp_path)
    write_images(tmp_path / "shop", ["train/anna/1.png"])
    with pytest.raises(ConfigError, match="no gallery images, which --gallery needs"):
        collection_of_dataset(own_dataset(tmp_path / "shop"))
