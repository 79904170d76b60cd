"""VERI-Wild: lists of both releases, cameras from vehicle_info.txt, three sizes."""

import pytest

import reid_core.data  # noqa: F401 - registers
from reid_core.data.datasets import VERIWild, VERIWild5000, VERIWild10000
from reid_core.registry import DATASET_REGISTRY
from tests.data.conftest import touch

SIZES = [(VERIWild, 3000), (VERIWild5000, 5000), (VERIWild10000, 10000)]
IMAGES = {"7/000001": 12, "7/000002": 30, "11542/119083": 12, "3/000004": 174, "3/000005": 12, "3/000006": 1}
TRAIN, QUERY, GALLERY = ["11542/119083", "7/000002", "7/000001"], ["3/000005"], ["3/000006", "3/000004"]


def write(folder, size=3000, release=1, **lines):
    """A VERI-Wild of empty images. lines: "train", "query", "gallery", "info", instead of the usual ones."""
    touch(folder / "images", [f"{image}.jpg" for image in IMAGES])
    names = {
        1: {"train": "train_list", "query": f"test_{size}_query", "gallery": f"test_{size}"},
        2: {"train": "train_list_start0", "query": f"test_{size}_id_query", "gallery": f"test_{size}_id"},
    }[release] | {"info": "vehicle_info"}
    usual = {"train": TRAIN, "query": QUERY, "gallery": GALLERY}
    if release == 2:
        usual = {name: [f"{image}.jpg 0 {IMAGES[image]}" for image in images] for name, images in usual.items()}
    usual["info"] = ["id/image;Camera ID;Time;Model;Type;Color"]
    usual["info"] += [f"{image};{camera};2018-03-11 09:20:53;Dongfeng;Truck;White" for image, camera in IMAGES.items()]
    split = folder / "train_test_split"
    split.mkdir(exist_ok=True)
    for name, content in (usual | lines).items():
        (split / f"{names[name]}.txt").write_text("\n".join(content) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("release", [1, 2])
@pytest.mark.parametrize(("reader", "size"), SIZES)
def test_lists_and_cameras(tmp_path, reader, size, release):
    folder = write(tmp_path / "VERI-Wild", size, release)
    dataset = reader(str(tmp_path))
    assert [tuple(record) for record in dataset.train] == [
        (str(folder / "images/11542/119083.jpg"), 11542, 1, 0),
        (str(folder / "images/7/000001.jpg"), 7, 1, 0),
        (str(folder / "images/7/000002.jpg"), 7, 2, 0),
    ]
    assert [record[1:] for record in dataset.query] == [(3, 1, 0)]
    assert [record[1:] for record in dataset.gallery] == [(3, 3, 0), (3, 0, 0)]  # cameras 1, 12, 30, 174 are 0 to 3
    assert (dataset.num_cameras, dataset.kind, dataset.evaluator) == (4, "vehicle", "")


@pytest.mark.parametrize(
    ("reader", "size", "gallery"),
    [(VERIWild, 3000, 38861), (VERIWild5000, 5000, 64389), (VERIWild10000, 10000, 128517)],
)
def test_published_counts(reader, size, gallery):
    assert DATASET_REGISTRY.get(reader.__name__) is reader
    assert reader.official["train"] == {"images": 277797, "identities": 30671}
    assert reader.official["query"]["images"] == size and reader.official["gallery"]["images"] == gallery
    assert any(f"test_{size}_query.txt" in entry for entry in reader.layout)


def test_the_largest_test_set_and_the_training_images_are_all_images():
    official = VERIWild10000.official
    assert sum(official[split]["images"] for split in official) == 416314
    assert sum(official[split]["identities"] for split in ("train", "query")) == 40671


def test_a_file_of_cameras_without_a_header(tmp_path):
    write(tmp_path / "VERI-Wild", info=[f"{image};{camera}" for image, camera in IMAGES.items()])
    assert VERIWild(str(tmp_path)).train.camids.tolist() == [1, 1, 2]


def test_attributes_in_another_encoding_do_not_matter(tmp_path):
    folder = write(tmp_path / "VERI-Wild")
    info = folder / "train_test_split" / "vehicle_info.txt"
    info.write_bytes(info.read_bytes().replace(b"White", "\u767d".encode("gbk")))
    assert VERIWild(str(tmp_path)).gallery.camids.tolist() == [3, 0]


@pytest.mark.parametrize("missing", ["train_list", "test_3000", "test_3000_query", "vehicle_info"])
def test_a_missing_list_is_named(tmp_path, missing):
    (write(tmp_path / "VERI-Wild") / "train_test_split" / f"{missing}.txt").unlink()
    with pytest.raises(FileNotFoundError, match=rf"VERIWild: train_test_split/{missing}\.txt.* missing in"):
        VERIWild(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"test_5000_query\.txt or .*test_5000_id_query\.txt, .*missing in"):
        VERIWild5000(str(tmp_path))


@pytest.mark.parametrize("line", ["000001", "7/a b", "seven/000001", "7/8/000001", "12345678901/1"])
@pytest.mark.parametrize("name", ["train", "query", "gallery"])
def test_a_line_that_cannot_be_read(tmp_path, name, line):
    write(tmp_path / "VERI-Wild", **{name: ["7/000001", "", line]})
    with pytest.raises(ValueError, match=rf"\.txt, line 3: '{line}' is not of the form '11542/119083'"):
        VERIWild(str(tmp_path))


@pytest.mark.parametrize("line", ["7/000002", "7/000002;", "7/000002;front", "000002;3"])
def test_a_line_of_cameras_that_cannot_be_read(tmp_path, line):
    write(tmp_path / "VERI-Wild", info=["7/000001;1", line])
    with pytest.raises(ValueError, match=r"vehicle_info\.txt, line 2: .* does not begin as '11542/119083;23;'"):
        VERIWild(str(tmp_path))


def test_an_image_without_a_camera(tmp_path):
    write(tmp_path / "VERI-Wild", info=[f"{image};1" for image in IMAGES if image != "7/000002"])
    with pytest.raises(ValueError, match=r"1 of 3 images of train_list\.txt are not in .*info\.txt.*: 7/000002"):
        VERIWild(str(tmp_path))


def test_an_image_listed_twice_under_two_endings(tmp_path):
    write(tmp_path / "VERI-Wild", train=["7/000001", "7/000001.jpg"])
    with pytest.raises(ValueError, match=r"train_list\.txt, line 2: 7/000001 is listed twice"):
        VERIWild(str(tmp_path))


def test_an_image_that_is_listed_but_not_there(tmp_path):
    (write(tmp_path / "VERI-Wild") / "images" / "3" / "000005.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 1 images listed in test_3000_query\.txt are not in .*3/000005"):
        VERIWild(str(tmp_path))


def test_vehicles_of_other_sizes_are_not_looked_at(tmp_path):
    folder = write(tmp_path / "VERI-Wild")
    (folder / "images" / "99999").symlink_to("nowhere")
    touch(folder / "images" / "8", ["notes.txt"])
    assert len(VERIWild(str(tmp_path)).gallery) == 2
