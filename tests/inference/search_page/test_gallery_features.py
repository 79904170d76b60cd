"""The gallery is encoded once, and again when something that counts has changed."""

import logging
import shutil

import numpy as np
import pytest

import reid_core as reid
from reid_core.data.datasets import Market1501
from reid_core.inference.search_page import gallery_features
from reid_core.inference.search_page.collection import Collection, collection_of_dataset
from reid_core.inference.search_page.gallery_features import gallery_index, side_information


@pytest.fixture
def counted(models, monkeypatch):
    """The first model, and the numbers of images that its encode was given."""
    model, calls = models["first"], []
    encode = model.encode

    def counting(images, *arguments, **options):
        calls.append(len(images))
        return encode(images, *arguments, **options)

    monkeypatch.setattr(model, "encode", counting)
    return model, calls


def test_features_are_those_of_encode_and_are_kept(counted, collection, tmp_path):
    model, calls = counted
    index = gallery_index(model, collection, tmp_path)
    assert calls == [12] and index.ids.tolist() == list(range(12))
    again = gallery_index(model, collection, tmp_path)
    assert calls == [12]
    features = model.encode(list(collection.gallery.paths))
    for found in (index, again):
        result = found.search(features, 1)
        assert result.ids[:, 0].tolist() == list(range(12))
        np.testing.assert_allclose(result.distances[:, 0], 0, atol=1e-6)
        assert result.camids[:, 0].tolist() == collection.gallery.camids.tolist()


def test_other_weights_and_other_files_are_encoded_anew(counted, models, collection, checkpoint, tmp_path):
    model, calls = counted
    shutil.copytree(checkpoint.parents[1] / "data", tmp_path / "data")
    copied = collection_of_dataset(Market1501(str(tmp_path / "data")))
    gallery_index(model, copied, tmp_path / "kept")
    gallery_index(models["second"], copied, tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 2
    with open(copied.gallery[3].path, "ab") as file:
        file.write(b"\0")
    gallery_index(model, copied, tmp_path / "kept")
    fewer = Collection(copied.name, copied.gallery[:5], copied.query)
    assert len(gallery_index(model, fewer, tmp_path / "kept")) == 5
    assert calls == [12, 12, 5]
    assert len(list((tmp_path / "kept").iterdir())) == 4


def test_a_stopped_run_goes_on_where_it_was(counted, collection, tmp_path, monkeypatch):
    model, calls = counted
    monkeypatch.setattr(gallery_features, "_FIRST_SAVE", 5)
    counting = model.encode

    def stopping(images, *arguments, **options):
        if len(calls) == 1:
            raise KeyboardInterrupt
        return counting(images, *arguments, **options)

    monkeypatch.setattr(model, "encode", stopping)
    with pytest.raises(KeyboardInterrupt):
        gallery_index(model, collection, tmp_path)
    monkeypatch.setattr(model, "encode", counting)
    index = gallery_index(model, collection, tmp_path)
    assert calls == [5, 5, 2] and len(index) == 12
    whole = model.encode(list(collection.gallery.paths))
    assert index.search(whole, 1).ids[:, 0].tolist() == list(range(12))


def test_a_damaged_index_is_made_anew_and_said(counted, collection, tmp_path, caplog):
    model, calls = counted
    gallery_index(model, collection, tmp_path)
    data = next(tmp_path.glob("*/index-*.bin"))
    data.write_bytes(data.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert len(gallery_index(model, collection, tmp_path)) == 12
    assert calls == [12, 12] and "are not used, the images are encoded again" in caplog.text


def test_a_broken_image_is_named(models, collection, checkpoint, tmp_path):
    shutil.copytree(checkpoint.parents[1] / "data", tmp_path / "data")
    copied = collection_of_dataset(Market1501(str(tmp_path / "data")))
    with open(copied.gallery[3].path, "wb") as file:
        file.write(b"no image")
    with pytest.raises(OSError, match="cannot be decoded"):
        gallery_index(models["first"], copied, tmp_path / "kept")


def test_a_model_with_cameras_is_told_those_of_its_own_dataset(camera_checkpoint):
    model = reid.load(camera_checkpoint, device="cpu")
    collection = collection_of_dataset(Market1501(str(camera_checkpoint.parents[1] / "data")))
    table = collection.gallery
    assert side_information(model, collection, table).camids == table.camids.tolist()
    model.camera_offsets["Market1501"] = 1
    assert side_information(model, collection, table).camids == [1 if camid == 0 else -1 for camid in table.camids]
    elsewhere = Collection("elsewhere", table, table)
    assert side_information(model, elsewhere, table).camids is None
    told, untold = (gallery_features.encode_records(model, given, table) for given in (collection, elsewhere))
    assert np.abs(told - untold).max() > 1e-4
