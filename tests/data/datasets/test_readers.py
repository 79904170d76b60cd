"""Each reader's own rules; the names of the published programs' tests are in tests/parity/test_samplers_parsers.py."""

import pytest

import reid_core.data  # noqa: F401 - registers
from reid_core.data.datasets import MSMT17, MSMT17V2, DukeMTMC, Market1501, OccludedDuke, VeRi776
from reid_core.registry import DATASET_REGISTRY
from tests.data.conftest import touch

LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")


def write_msmt(folder, folders=("train", "test"), **lists):
    """MSMT17 with one image a list, or the lines given as `train=`, `val=`, `query=`, `gallery=`."""
    lines = {
        "train": ["0000/0000_000_01_0303morning_0008_0.jpg 0"],
        "val": ["0001/0001_000_05_0302noon_0001_0.jpg 1"],
        "query": ["0000/0000_001_15_0303morning_0015_0.jpg 0"],
        "gallery": ["0000/0000_002_02_0303noon_0089_1.jpg 0"],
    } | lists
    for name, content in lines.items():
        touch(folder / folders[name in ("query", "gallery")], [line.split()[0] for line in content if line.strip()])
        (folder / f"list_{name}.txt").write_text("\n".join(content) + "\n")


@pytest.mark.parametrize("name", ["Market1501", "MSMT17", "MSMT17V2", "DukeMTMC", "OccludedDuke", "VeRi776"])
def test_registered_under_its_name(name):
    assert DATASET_REGISTRY.get(name).__name__ == name


def test_market_drops_junk_and_keeps_distractors(tmp_path):
    folder = tmp_path / "Market-1501-v15.09.15"
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        touch(folder / split, ["-1_c1s1_000401_03.jpg", "0000_c1s1_000151_01.jpg", "0002_c2s1_000451_03.jpg"])
    dataset = Market1501(str(tmp_path))
    assert dataset.gallery.pids.tolist() == [0, 2] and dataset.gallery.camids.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("reader", "folder", "view"), [(DukeMTMC, "DukeMTMC-reID", 0), (OccludedDuke, "Occluded_Duke", 1)]
)
def test_duke(tmp_path, reader, folder, view):
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        touch(tmp_path / folder / split, ["0001_c2_f0046182.jpg", "7105_c8_f0071212.jpg"])
    table = reader(str(tmp_path)).query
    assert [tuple(record[1:]) for record in table] == [(1, 1, view), (7105, 7, view)]


def test_msmt_joins_train_and_val_and_sorts(tmp_path):
    write_msmt(
        tmp_path / "MSMT17",
        train=["0007/0007_000_03_0113noon_0001_0.jpg 7", "", "0000/0000_000_01_0303morning_0008_0.jpg 0"],
    )
    dataset = MSMT17(str(tmp_path))
    assert [tuple(record[1:]) for record in dataset.train] == [(0, 0, 0), (1, 4, 0), (7, 2, 0)]
    assert dataset.train[0].path == str(tmp_path / "MSMT17/train/0000/0000_000_01_0303morning_0008_0.jpg")
    assert dataset.query[0][1:] == (0, 14, 0)
    assert dataset.gallery[0][1:] == (0, 1, 0)


def test_msmt_v2_with_lists(tmp_path):
    write_msmt(tmp_path / "MSMT17_V2", folders=("mask_train_v2", "mask_test_v2"))
    assert MSMT17V2(str(tmp_path)).train.pids.tolist() == [0, 1]


def test_msmt_v2_named_as_market(tmp_path):
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        touch(tmp_path / "MSMT17_V2" / split, ["0000_c14_0030.jpg", "0001_c1_0000.jpg"])
    assert MSMT17V2(str(tmp_path)).gallery.camids.tolist() == [13, 0]


def test_msmt_v2_of_neither_layout_shows_both(tmp_path):
    touch(tmp_path / "MSMT17_V2" / "query", ["0000_c14_0030.jpg"])
    with pytest.raises(FileNotFoundError, match="mask_train_v2") as caught:
        MSMT17V2(str(tmp_path))
    assert "or, instead:" in str(caught.value) and "bounding_box_train/*.jpg" in str(caught.value)


@pytest.mark.parametrize("name", LISTS)
def test_msmt_needs_every_list(tmp_path, name):
    write_msmt(tmp_path / "MSMT17")
    (tmp_path / "MSMT17" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} missing"):
        MSMT17(str(tmp_path))


def test_msmt_list_names_an_image_that_is_not_there(tmp_path):
    write_msmt(tmp_path / "MSMT17")
    (tmp_path / "MSMT17/test/0000/0000_001_15_0303morning_0015_0.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images listed in list_query.txt are not in .*0000_001_15"):
        MSMT17(str(tmp_path))


@pytest.mark.parametrize(
    "line", ["0000/0000_000_01_0303morning_0008_0.jpg", "0000/0000_000_0303morning.jpg 0", "a_b_c_d.jpg 0", "x 0 1"]
)
def test_msmt_line_that_cannot_be_read(tmp_path, line):
    write_msmt(tmp_path / "MSMT17")
    with (tmp_path / "MSMT17" / "list_val.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"list_val.txt, line 2: .* is not of the form"):
        MSMT17(str(tmp_path))


def test_msmt_image_listed_twice(tmp_path):
    write_msmt(tmp_path / "MSMT17", val=["0000/0000_000_01_0303morning_0008_0.jpg 0"])
    with pytest.raises(ValueError, match=r"list_val.txt, line 1: .* is listed twice"):
        MSMT17(str(tmp_path))


def test_msmt_unlisted_images_are_a_warning(tmp_path, caplog):
    write_msmt(tmp_path / "MSMT17")
    touch(tmp_path / "MSMT17/train/0005", ["0005_000_01_0303morning_0008_0.jpg"])
    MSMT17(str(tmp_path))
    assert any("1 images in" in record.getMessage() for record in caplog.records)


@pytest.fixture
def veri_root(tmp_path):
    for split in ("image_train", "image_query", "image_test"):
        names = ["0001_c001_00016450_0.jpg", "0002_c020_00030600_0.jpg", "-1_c004_00000004_0.jpg"]
        touch(tmp_path / "VeRi" / split, names)
    return tmp_path


def test_veri_without_keypoints_keeps_all_images(veri_root):
    dataset = VeRi776(str(veri_root))
    assert dataset.kind == "vehicle" and dataset.official["train"]["images"] == 37778
    assert [tuple(record[1:]) for record in dataset.train] == [(1, 0, 0), (2, 19, 0)]


@pytest.mark.parametrize("beside", [False, True])
def test_veri_with_keypoints_drops_images_without_a_view(veri_root, beside):
    folder = veri_root if beside else veri_root / "VeRi"
    (folder / "keypoint_train.txt").write_text("/data/image_train/0001_c001_00016450_0.jpg 12 40 -1 5\n\n")
    (folder / "keypoint_test.txt").write_text("image_test/-1_c004_00000004_0.jpg 2\r\n")
    dataset = VeRi776(str(veri_root))
    assert [tuple(record[1:]) for record in dataset.train] == [(1, 0, 5)]
    assert dataset.num_views == 6 and dataset.official["train"]["images"] == 37746


def test_veri_with_one_keypoint_file(veri_root):
    (veri_root / "VeRi" / "keypoint_train.txt").write_text("0001_c001_00016450_0.jpg 5\n")
    with pytest.raises(FileNotFoundError, match="both are needed"):
        VeRi776(str(veri_root))


@pytest.mark.parametrize("line", ["0001_c001_00016450_0.jpg", "0001_c001_00016450_0.jpg left"])
def test_veri_keypoint_line_that_cannot_be_read(veri_root, line):
    for name in ("keypoint_train.txt", "keypoint_test.txt"):
        (veri_root / "VeRi" / name).write_text(f"0002_c020_00030600_0.jpg 1\n{line}\n")
    with pytest.raises(ValueError, match=r"keypoint_train\.txt, line 2"):
        VeRi776(str(veri_root))
