import os
import re

import pytest

from reid_core.config import ConfigError
from reid_core.data.datasets import ImageFolder
from tests.data.conftest import touch

FILES = [
    "train/b/x_c2.jpg",
    "train/b/deeper/y_c10.PNG",
    "train/a/z_c2.jpeg",
    "train/a/notes.txt",
    "train/a/._z_c2.jpeg",
    "query/c/q_c2.jpg",
    "gallery/c/g_c3.webp",
]


@pytest.fixture
def shop(tmp_path):
    touch(tmp_path / "shop", FILES)
    return tmp_path / "shop"


def below(folder, table):
    return [(os.path.relpath(record.path, folder), *record[1:]) for record in table]


def test_identities_by_folders_and_unknown_cameras(shop, caplog):
    caplog.set_level("INFO")
    dataset = ImageFolder(str(shop.parent), "shop")
    assert dataset.name == "shop" and not dataset.names_cameras and dataset.pid_values == ("a", "b", "c")
    assert below(shop, dataset.train) == [
        ("train/a/z_c2.jpeg", 0, 0, 0),
        ("train/b/deeper/y_c10.PNG", 1, 0, 0),
        ("train/b/x_c2.jpg", 1, 0, 0),
    ]
    assert below(shop, dataset.query) == [("query/c/q_c2.jpg", 2, 0, 0)]
    assert below(shop, dataset.gallery) == [("gallery/c/g_c3.webp", 2, 1, 0)]
    assert "skipped 2 files that are no images" in caplog.text


def test_cameras_by_the_pattern(shop):
    dataset = ImageFolder(str(shop.parent), "shop", pattern=r"_c(?P<camid>\d+)\.")
    assert dataset.camid_values == ("2", "3", "10")
    assert dataset.train.camids.tolist() == [0, 2, 0] and dataset.gallery.camids.tolist() == [1]
    assert dataset.train.pids.tolist() == [0, 1, 1]


def test_everything_by_the_pattern(tmp_path):
    touch(tmp_path / "flat" / "train", ["7_north_v1.jpg", "7_south_v0.jpg", "10_south_v3.jpg", "x_south_v0.jpg"])
    pattern = r"^(?:(?P<pid>\d+)|x)_(?P<camid>[a-z]+)_v(?P<viewid>\d)"
    dataset = ImageFolder(str(tmp_path), "flat", kind="vehicle", pattern=pattern)
    assert below(tmp_path / "flat" / "train", dataset.train) == [
        ("10_south_v3.jpg", 1, 1, 3),
        ("7_north_v1.jpg", 0, 0, 1),
        ("7_south_v0.jpg", 0, 1, 0),
        ("x_south_v0.jpg", -1, 1, 0),
    ]
    assert dataset.pid_values == ("7", "10") and dataset.kind == "vehicle" and dataset.num_views == 4


def test_unlabelled_images_only_where_the_config_says_so(tmp_path):
    touch(tmp_path / "flat", ["train/1_c1.jpg", "train/day/2_c2.jpg"])
    with pytest.raises(
        ValueError, match=r"1 of 2 images .* no identity's folder: 1_c1\.jpg.*OWN_DATA\.UNLABELLED True"
    ):
        ImageFolder(str(tmp_path), "flat")
    dataset = ImageFolder(str(tmp_path), "flat", pattern=r"_c(?P<camid>\d)", unlabelled=True)
    assert below(tmp_path / "flat", dataset.train) == [("train/1_c1.jpg", -1, 0, 0), ("train/day/2_c2.jpg", -1, 1, 0)]
    assert dataset.statistics()["train"].identities == 0


def test_links_names_outside_utf8_and_links_in_a_circle(tmp_path):
    touch(tmp_path / "store" / "anna", ["1.jpg"])
    train = tmp_path / "shop" / "train"
    touch(train / "bea", [os.fsdecode(b"caf\xe9.jpg")])
    (train / "anna").symlink_to(tmp_path / "store" / "anna")
    (train / "bea" / "again").symlink_to(train)
    (train / "bea" / "2.jpg").symlink_to(tmp_path / "store" / "anna" / "1.jpg")
    dataset = ImageFolder(str(tmp_path), "shop")
    names = [os.path.relpath(path, train) for path in dataset.train.paths]
    assert names == ["anna/1.jpg", "bea/2.jpg", os.fsdecode(b"bea/caf\xe9.jpg")]
    assert all(os.path.exists(path) for path in dataset.train.paths)


def test_a_link_that_leads_nowhere_is_named(shop):
    (shop / "train" / "a" / "gone.jpg").symlink_to(shop / "elsewhere.jpg")
    with pytest.raises(FileNotFoundError, match=r"1 images in .* are links that lead to no file: a/gone\.jpg"):
        ImageFolder(str(shop.parent), "shop")


def test_train_alone_or_query_and_gallery_alone(tmp_path):
    touch(tmp_path, ["one/train/a/1.jpg", "two/query/a/1.jpg", "two/gallery/a/2.jpg", "three/query/a/1.jpg"])
    assert [len(split) for split in splits(ImageFolder(str(tmp_path), "one"))] == [1, 0, 0]
    assert [len(split) for split in splits(ImageFolder(str(tmp_path), "two"))] == [0, 1, 1]
    with pytest.raises(FileNotFoundError, match=r"no folder 'train'.*three/train/<identity>/<image>\. Found: query"):
        ImageFolder(str(tmp_path), "three")
    (tmp_path / "four" / "train").mkdir(parents=True)
    with pytest.raises(NotADirectoryError, match="is a file; Manifest:<path> reads lists"):
        ImageFolder(str(tmp_path), "one/train/a/1.jpg")
    with pytest.raises(ValueError, match="four holds no images"):
        ImageFolder(str(tmp_path), "four")


def splits(dataset):
    return dataset.train, dataset.query, dataset.gallery


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        (r"_c(?P<camid>\d", ConfigError, "is no regular expression"),
        (r"_c(?P<camera>\d+)", ConfigError, "has the group 'camera'; its groups are named pid, camid, viewid"),
        (r"_c(\d+)", ConfigError, "has no named group"),
        (r"_k(?P<camid>\d+)", ValueError, "3 of 3 images in .*train do not fit .*a/z_c2.jpeg"),
        (r"^(?P<viewid>[a-z])", ValueError, r"train/a/z_c2.jpeg: the viewpoint must be .* got 'a'"),
    ],
)
def test_patterns_that_cannot_be_used(shop, pattern, error, message):
    with pytest.raises(error, match=message):
        ImageFolder(str(shop.parent), "shop", pattern=pattern)


def test_the_result_does_not_depend_on_the_order_of_the_listing(shop, monkeypatch):
    expected = [below(shop, split) for split in splits(ImageFolder(str(shop.parent), "shop"))]
    scandir = os.scandir

    class Backwards:
        def __init__(self, folder):
            with scandir(folder) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return self.entries

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(os, "scandir", Backwards)
    assert [below(shop, split) for split in splits(ImageFolder(str(shop.parent), "shop"))] == expected
    assert re.search("z_c2", expected[0][0][0])


def test_links_in_a_circle(shop):
    (shop / "train" / "a" / "circle.jpg").symlink_to("circle.jpg")
    (shop / "train" / "circle").symlink_to("circle")
    with pytest.raises(FileNotFoundError, match=r"1 images in .*train are links that lead to no file: a/circle\.jpg"):
        ImageFolder(str(shop.parent), "shop")
    (shop / "train" / "a" / "circle.jpg").unlink()
    assert ImageFolder(str(shop.parent), "shop").pid_values == ("a", "b", "c")
