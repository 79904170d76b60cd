"""CUHK03 with the new protocol: two kinds of boxes, each a dataset."""

import pytest

import reid_core.data  # noqa: F401 - registers
from reid_core.data.datasets import CUHK03Detected, CUHK03Labeled
from reid_core.registry import DATASET_REGISTRY
from tests.data.conftest import touch

BOTH = [(CUHK03Labeled, "labeled"), (CUHK03Detected, "detected")]


@pytest.fixture
def root(tmp_path):
    for number, (_, boxes) in enumerate(BOTH):
        folder = tmp_path / "cuhk03-np" / boxes
        touch(folder / "bounding_box_train", [f"0003_c1_{number}.png", "0010_c2_7.png", "0010_c2_10.png"])
        touch(folder / "query", ["0001_c1_1.png", "0001_c2_6.png"])
        touch(folder / "bounding_box_test", ["0001_c1_2.png", "0001_c2_9.png"])
    return tmp_path


@pytest.mark.parametrize(("reader", "boxes"), BOTH)
def test_names(root, reader, boxes):
    dataset = reader(str(root))
    assert (dataset.kind, dataset.evaluator, dataset.names_cameras) == ("person", "", True)
    assert [tuple(record[1:]) for record in dataset.train] == [(3, 0, 0), (10, 1, 0), (10, 1, 0)]
    assert [tuple(record[1:]) for record in dataset.query] == [(1, 0, 0), (1, 1, 0)]
    assert dataset.gallery[0].path == str(root / "cuhk03-np" / boxes / "bounding_box_test" / "0001_c1_2.png")
    assert dataset.num_cameras == 2


@pytest.mark.parametrize(("reader", "train", "gallery"), [(CUHK03Labeled, 7368, 5328), (CUHK03Detected, 7365, 5332)])
def test_published_counts(reader, train, gallery):
    assert DATASET_REGISTRY.get(reader.__name__) is reader
    assert reader.official["train"] == {"images": train, "identities": 767, "cameras": 2}
    assert [reader.official[split]["images"] for split in ("query", "gallery")] == [1400, gallery]


def test_only_one_kind_of_boxes_is_needed(root):
    (root / "cuhk03-np" / "labeled").rename(root / "elsewhere")
    assert len(CUHK03Detected(str(root)).train) == 3
    with pytest.raises(FileNotFoundError, match=r"no folder 'cuhk03-np/labeled'"):
        CUHK03Labeled(str(root))


@pytest.mark.parametrize("below", ["cuhk03-np", "cuhk03-np/labeled"])
def test_root_inside_the_dataset_is_recognised(root, below):
    with pytest.raises(FileNotFoundError, match=r"DATASETS\.ROOT is the folder above"):
        CUHK03Labeled(str(root / below))
