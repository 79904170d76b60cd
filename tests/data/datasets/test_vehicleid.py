"""VehicleID: lists, the draw of the gallery, the three sizes; the published draw is in tests/parity."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reid_core.data  # noqa: F401 - registers
from reid_core.data.datasets import VehicleID, VehicleID1600, VehicleID2400
from reid_core.data.datasets.vehicleid import draw_gallery
from reid_core.registry import DATASET_REGISTRY
from tests.data.conftest import touch

LISTS = ("train_list.txt", "test_list_800.txt", "test_list_1600.txt", "test_list_2400.txt")


def write_vehicleid(root, **lists):
    """A VehicleID of empty images. lists: "train", "800", ... as lines; the sizes that are not given are the same."""
    folder = root / "VehicleID_V1.0"
    (folder / "train_test_split").mkdir(parents=True, exist_ok=True)
    lines = {"train": ["0000001 7", "0000002 7", "0000003 9"]}
    lines |= {"800": ["0000011 3", "0000012 3", "0000013 3", "0000021 5", "0000022 5", "0000031 8"]} | lists
    for name in ("1600", "2400"):
        lines.setdefault(name, lines["800"])
    for name, content in lines.items():
        touch(folder / "image", [f"{line.split()[0]}.jpg" for line in content if line])
        file = "train_list.txt" if name == "train" else f"test_list_{name}.txt"
        (folder / "train_test_split" / file).write_text("\n".join(content))
    return root


def names(table):
    return [table.paths.relative(index) for index in range(len(table))]


@pytest.mark.parametrize("name", ["VehicleID", "VehicleID1600", "VehicleID2400"])
def test_registered_under_its_name_with_its_protocol(name):
    dataset = DATASET_REGISTRY.get(name)
    assert (dataset.__name__, dataset.kind, dataset.evaluator) == (name, "vehicle", "RandomGalleryEvaluator")
    assert dataset.official["train"] == {"images": 113346, "identities": 13164}


def test_one_image_of_each_vehicle_is_the_gallery(tmp_path):
    dataset = VehicleID(str(write_vehicleid(tmp_path)))
    assert [tuple(record[1:]) for record in dataset.train] == [(7, 0, 0), (7, 0, 0), (9, 0, 0)]
    assert dataset.train[0].path == str(tmp_path / "VehicleID_V1.0" / "image" / "0000001.jpg")
    assert dataset.gallery.pids.tolist() == [3, 5, 8]
    assert dataset.query.pids.tolist() == [3, 3, 5]  # vehicle 8 has a single image: no query
    assert set(dataset.query.camids.tolist()) == {0} and set(dataset.gallery.camids.tolist()) == {1}
    assert dataset.num_views == 1
    both = names(dataset.query) + names(dataset.gallery)
    assert sorted(both) == [f"image/00000{number}.jpg" for number in (11, 12, 13, 21, 22, 31)]


def test_each_size_reads_its_own_list_and_the_same_training_images(tmp_path):
    lines = ["0000011 3", "0000012 3", "0000021 5", "0000022 5", "0000031 8", "0000032 8"]
    root = str(write_vehicleid(tmp_path, **{"800": lines[:2], "1600": lines[:4], "2400": lines}))
    datasets = [reader(root) for reader in (VehicleID, VehicleID1600, VehicleID2400)]
    assert [dataset.gallery.pids.tolist() for dataset in datasets] == [[3], [3, 5], [3, 5, 8]]
    assert all(list(dataset.train) == list(datasets[0].train) for dataset in datasets)
    assert [dataset.official["gallery"]["images"] for dataset in datasets] == [800, 1600, 2400]


def test_the_order_of_the_lines_means_nothing(tmp_path):
    lines = [f"{number:07d} {number // 6}" for number in range(60)]
    first = VehicleID(str(write_vehicleid(tmp_path / "a", **{"800": lines})))
    shuffled = random.Random(0).sample(lines, len(lines))
    second = VehicleID(str(write_vehicleid(tmp_path / "b", **{"800": shuffled})))
    assert names(first.gallery) == names(second.gallery)
    assert names(first.query) == names(second.query)


def test_the_draw_does_not_touch_the_global_generator_and_another_seed_gives_another(tmp_path):
    root = str(write_vehicleid(tmp_path, **{"800": [f"{number:07d} {number // 6}" for number in range(120)]}))
    random.seed(5)
    expected = random.random()
    random.seed(5)
    first = names(VehicleID(root).gallery)
    assert random.random() == expected
    assert first == names(VehicleID(root).gallery)
    assert first != names(VehicleID(root, split_seed=1).gallery)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 100))
def test_every_identity_is_drawn_once(pids, seed):
    drawn = draw_gallery(np.array(pids), seed)
    assert sorted(np.array(pids)[drawn].tolist()) == sorted(set(pids))


@pytest.mark.parametrize("seed", range(5))
def test_identities_are_drawn_in_the_order_of_their_numbers(seed):
    generator = random.Random(seed)
    low, high = generator.choice([1, 3, 5, 7]), generator.choice([0, 2, 4])
    assert draw_gallery(np.array([90, 3, 90, 3, 90, 3, 400, 3]), seed).nonzero()[0].tolist() == sorted([low, high, 6])


def test_every_image_is_drawn_about_as_often():
    pids = np.repeat([4, 2], 5)
    counts = sum(draw_gallery(pids, seed).astype(int) for seed in range(1000))
    assert counts.min() > 150 and counts.max() < 250  # 200 each; nearly four standard deviations


@pytest.mark.parametrize("reader", [VehicleID, VehicleID1600, VehicleID2400])
def test_a_missing_list_is_named_and_the_other_sizes_are_not_needed(tmp_path, reader):
    folder = write_vehicleid(tmp_path) / "VehicleID_V1.0"
    for name in LISTS[1:]:
        if name not in reader.test_list:
            (folder / "train_test_split" / name).unlink()
    assert len(reader(str(tmp_path)).gallery) == 3
    (folder / reader.test_list).unlink()
    with pytest.raises(FileNotFoundError, match=f"{reader.test_list} missing in") as caught:
        reader(str(tmp_path))
    assert "image/*.jpg" in str(caught.value)


def test_the_training_list_is_needed(tmp_path):
    (write_vehicleid(tmp_path) / "VehicleID_V1.0" / "train_test_split" / "train_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train_test_split/train_list\.txt missing"):
        VehicleID(str(tmp_path))


@pytest.mark.parametrize("line", ["0000031", "0000031.jpg 8", "0000031 8 1", "a 8", "0000031 -1", "0000031 1234567890"])
@pytest.mark.parametrize("name", ["train", "800"])
def test_a_line_that_cannot_be_read(tmp_path, name, line):
    root = write_vehicleid(tmp_path, **{name: ["0000011 3", "", line]})
    with pytest.raises(ValueError, match=rf"{name}\S*\.txt, line 3: '{line}' is not of the form '0015213 12'"):
        VehicleID(str(root))


def test_an_image_that_is_listed_but_not_there(tmp_path):
    root = write_vehicleid(tmp_path)
    (root / "VehicleID_V1.0" / "image" / "0000012.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 6 images listed in .*test_list_800.txt are not in .*0000012"):
        VehicleID(str(root))


def test_an_image_that_is_listed_twice(tmp_path):
    root = write_vehicleid(tmp_path, train=["0000001 7", "0000002 7", "0000001 9"])
    with pytest.raises(ValueError, match=r"train_list.txt, line 3: 0000001.jpg is listed twice"):
        VehicleID(str(root))


def test_vehicles_with_a_single_image_only(tmp_path):
    root = write_vehicleid(tmp_path, **{"800": ["0000011 3", "0000021 5"]})
    with pytest.raises(ValueError, match="the query split is empty"):
        VehicleID(str(root))
