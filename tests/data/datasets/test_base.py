import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_core.data.datasets import Market1501, ReIDDataset, Splits, read_folder
from reid_core.data.datasets.base import SPLITS, parse_names
from reid_core.structures import ReIDImage
from tests.data.conftest import touch, write_market


@pytest.fixture
def small(tmp_path):
    """A complete, tiny Market-1501 of empty files."""
    folder = tmp_path / "Market-1501-v15.09.15"
    touch(folder / "bounding_box_train", ["0002_c1s1_000451_03.jpg", "0007_c3s3_077419_03.jpg"])
    touch(folder / "query", ["0003_c1s1_000001_00.jpg"])
    touch(folder / "bounding_box_test", ["0003_c2s1_000001_00.jpg", "0000_c1s1_000001_00.jpg"])
    return tmp_path


def test_splits_are_sequences_of_records(small):
    dataset = Market1501(str(small))
    path = str(small / "Market-1501-v15.09.15" / "bounding_box_train" / "0002_c1s1_000451_03.jpg")
    assert dataset.train[0] == ReIDImage(path, 2, 0, 0)
    assert list(dataset.train) == [dataset.train[0], dataset.train[1]] == list(dataset.train[:2])
    assert (dataset.name, dataset.kind, dataset.num_cameras, dataset.num_views) == ("Market1501", "person", 3, 1)
    assert dataset.statistics()["gallery"] == (2, 2, 2)
    assert "train 2 images of 2 identities by 2 cameras" in str(dataset)


def test_root_comes_from_the_config():
    cfg = SimpleNamespace(DATASETS=SimpleNamespace(ROOT="here"))
    assert Market1501.from_config(cfg) == {"root": "here"}


def test_missing_root_shows_expected_and_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist") as caught:
        Market1501(str(tmp_path / "nowhere"))
    for part in ("Market1501 is not in", "Market-1501-v15.09.15/", "bounding_box_train/*.jpg", "query/*.jpg"):
        assert part in str(caught.value)


def test_missing_folder_shows_what_lies_there(tmp_path):
    touch(tmp_path, ["VeRi/a.jpg", "readme.txt"])
    with pytest.raises(FileNotFoundError, match=r"Found in .*\n  VeRi/\n  readme.txt"):
        Market1501(str(tmp_path))


def test_root_that_is_the_dataset_itself_is_recognised(small):
    with pytest.raises(FileNotFoundError, match=r"DATASETS\.ROOT is the folder above"):
        Market1501(str(small / "Market-1501-v15.09.15"))


def test_root_that_is_a_file(tmp_path):
    touch(tmp_path, ["data.zip"])
    with pytest.raises(FileNotFoundError, match="is a file"):
        Market1501(str(tmp_path / "data.zip"))


def test_wrong_layout_names_what_is_missing(small):
    folder = small / "Market-1501-v15.09.15"
    (folder / "query").rename(folder / "queries")
    with pytest.raises(FileNotFoundError, match=r"query/\*.jpg missing in .*") as caught:
        Market1501(str(small))
    assert "Expected" in str(caught.value) and "  queries/" in str(caught.value)


@pytest.mark.parametrize("split", ["bounding_box_train", "query", "bounding_box_test"])
def test_empty_split(small, split):
    for file in (small / "Market-1501-v15.09.15" / split).iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="split is empty"):
        Market1501(str(small))


@pytest.mark.parametrize(
    "name",
    [
        "x_c1s1_000451_03.jpg",
        "0002_c0s1_000451_03.jpg",
        "0002c1s1.jpg",
        "0002_c1s1_000451_03.gif",  # an image, but of a kind that is not read: more than clutter
        "0002_c1s1_000451_03.BMP",
        f"{2**31}_c1s1_000451_03.jpg",
        f"0002_c{'9' * 30}s1_000451_03.jpg",
    ],
)
def test_file_that_does_not_fit_is_named_with_the_count(small, name):
    touch(small / "Market-1501-v15.09.15" / "query", [name, *(f"z{number}.jpg" for number in range(7))])
    with pytest.raises(ValueError, match=r"8 files in .*query do not fit") as caught:
        Market1501(str(small))
    assert name in str(caught.value) and "..." in str(caught.value)


def test_a_folder_among_the_images_is_a_warning(small, caplog):
    (small / "Market-1501-v15.09.15" / "query" / "more").mkdir()
    assert len(Market1501(str(small)).query) == 1
    assert any("1 folders among the images are not looked into: more/" in r.getMessage() for r in caplog.records)


def test_clutter_of_file_managers_is_ignored_and_other_extensions_are_read(small):
    query = small / "Market-1501-v15.09.15" / "query"
    touch(query, ["Thumbs.db", ".DS_Store", "desktop.ini", "0004_c1s1_000001_00.png", "0005_c1s1_000001_00.JPEG"])
    assert Market1501(str(small)).query.pids.tolist() == [3, 4, 5]


def test_counts_that_differ_are_one_warning_that_names_them(small, caplog):
    with caplog.at_level(logging.WARNING, logger="reid"):
        Market1501(str(small))
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "train images 2 (published: 12936)" in message and "query images 1 (published: 3368)" in message


def test_matching_counts_do_not_warn(small, caplog):
    class Exact(Market1501):
        official = {"train": {"images": 2, "identities": 2, "cameras": 2}, "query": {"images": 1}}

    Exact(str(small))
    assert not caplog.records


def test_listing_does_not_depend_on_the_order_of_creation(tmp_path):
    names = [f"{number:04d}_c1s1_000000_00.jpg" for number in (9, 2, 5)]
    touch(tmp_path / "one" / "split", names)
    touch(tmp_path / "two" / "split", names[::-1])
    pattern = re.compile(r"(\d+)_c(\d+).*")
    tables = [read_folder(tmp_path / root, "split", pattern) for root in ("one", "two")]
    assert [table.pids.tolist() for table in tables] == [[2, 5, 9]] * 2


@given(st.lists(st.tuples(st.integers(-1, 9999), st.integers(1, 20), st.sampled_from(["jpg", "JPEG", "Png"]))))
def test_parsed_names_are_what_they_were_made_of(made):
    names = [f"{pid:04d}_c{camera}_{row}.{ending}" for row, (pid, camera, ending) in enumerate(made)]
    views = {name: row % 3 for row, name in enumerate(names) if row % 4}  # every fourth has no viewpoint
    pattern = re.compile(r"(-?\d+)_c(\d+)_.+")
    table = parse_names(Path("root"), "split", names, pattern, junk=(-1, 0), view_of=views.get)
    expected = [
        (f"root/split/{name}", pid, camera - 1, views[name])
        for name, (pid, camera, _) in zip(names, made, strict=True)
        if pid not in (-1, 0) and name in views
    ]
    assert [tuple(record) for record in table] == expected


def test_a_new_reader_needs_only_read_splits(tmp_path):
    class Own(ReIDDataset):
        kind = "vehicle"
        folders = ("Own",)
        layout = ("all/*.jpg",)

        def read_splits(self):
            table = read_folder(self.folder, "all", re.compile(r"(\d+)_c(\d+)"))
            return Splits(table[:1], table[1:2], table[2:])

    touch(tmp_path / "Own" / "all", ["1_c1.jpg", "2_c2.jpg", "2_c4.jpg"])
    dataset = Own(str(tmp_path))
    assert [getattr(dataset, split).pids.tolist() for split in SPLITS] == [[1], [2], [2]]
    assert dataset.num_cameras == 4


def test_reader_without_read_splits_says_so(tmp_path):
    class Empty(ReIDDataset):
        folders = ("Empty",)

    (tmp_path / "Empty").mkdir()
    with pytest.raises(NotImplementedError, match="Empty must define read_splits"):
        Empty(str(tmp_path))


def test_reading_real_files(tmp_path):
    write_market(tmp_path, identities=2, images=3)
    assert len(Market1501(str(tmp_path)).train) == 6
