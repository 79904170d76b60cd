import io
import os
import shutil

import pytest
import torch

from reid_core.data import TrainingSet
from reid_core.data.datasets import DukeMTMC, Manifest, Market1501
from tests.data.conftest import touch, write_market

SPLITS = ("bounding_box_train", "query", "bounding_box_test")


@pytest.fixture
def two(tmp_path):
    """A Market-1501 and a DukeMTMC with identities and cameras of equal numbers."""
    for split in SPLITS:
        touch(
            tmp_path / "Market-1501-v15.09.15" / split,
            ["0007_c1s1_000001_00.jpg", "0007_c2s1_000001_00.jpg", "0100_c1s1_000001_00.jpg"],
        )
        touch(tmp_path / "DukeMTMC-reID" / split, ["0007_c1_f0000001.jpg", "0009_c1_f0000001.jpg"])
    touch(tmp_path / "Market-1501-v15.09.15" / "bounding_box_test", ["0000_c6s1_000001_00.jpg"])
    return Market1501(str(tmp_path)), DukeMTMC(str(tmp_path))


def test_one_dataset(two):
    training_set = TrainingSet(two[:1])
    assert training_set.targets.tolist() == [0, 0, 1] and training_set.targets.dtype == torch.int64
    assert training_set.camids.tolist() == [0, 1, 0] and training_set.viewids.tolist() == [0, 0, 0]
    assert training_set.label_map == ["Market1501:7", "Market1501:100"]
    assert (len(training_set), training_set.num_identities, training_set.num_views) == (3, 2, 1)
    assert training_set.num_cameras == 6, "cameras of the test images have a number too"
    assert list(training_set.paths) == list(two[0].train.paths)


def test_identities_and_cameras_of_two_datasets_are_kept_apart(two):
    training_set = TrainingSet(two)
    assert training_set.label_map == ["DukeMTMC:7", "DukeMTMC:9", "Market1501:7", "Market1501:100"]
    assert training_set.targets.tolist() == [2, 2, 3, 0, 1]
    assert training_set.camera_offsets == {"DukeMTMC": 0, "Market1501": 1}
    assert training_set.camids.tolist() == [1, 2, 1, 0, 0] and training_set.num_cameras == 7
    assert [record.pid for record in training_set.images] == [2, 2, 3, 0, 1]


def test_labels_do_not_depend_on_the_order_of_the_datasets(two):
    there, back = TrainingSet(two), TrainingSet(two[::-1])
    assert there.label_map == back.label_map and there.camera_offsets == back.camera_offsets
    assert dict(zip(there.paths, there.targets.tolist(), strict=True)) == dict(
        zip(back.paths, back.targets.tolist(), strict=True)
    )


def test_no_dataset_and_one_given_twice_are_refused(two):
    with pytest.raises(ValueError, match="at least one"):
        TrainingSet([])
    with pytest.raises(ValueError, match="Market1501, Market1501"):
        TrainingSet([two[0], two[0]])


@pytest.fixture
def folder(tmp_path):
    return write_market(tmp_path / "here", identities=3, images=2) / "bounding_box_train"


def current(folder):
    return TrainingSet([Market1501(str(folder.parents[1]))])


def test_fingerprint_is_of_the_data_not_of_the_place(folder, tmp_path):
    there = tmp_path / "else" / "where"
    shutil.copytree(folder.parents[1], there)
    (there / "Market-1501-v15.09.15").rename(there / "market1501")
    assert TrainingSet([Market1501(str(there))]).fingerprint() == current(folder).fingerprint()


def add(folder):
    touch(folder, ["0002_c1s1_999999_00.jpg"])


def remove(folder):
    (folder / "0005_c2s1_000001_00.jpg").unlink()


def replace(folder):
    (folder / "0005_c2s1_000001_00.jpg").write_bytes(b"of another size")


def rename(folder):
    (folder / "0005_c2s1_000001_00.jpg").rename(folder / "0005_c2s1_000009_00.jpg")


def move_to_another_camera(folder):
    (folder / "0005_c2s1_000001_00.jpg").rename(folder / "0005_c6s1_000001_00.jpg")


def new_identity(folder):
    for path in sorted(folder.glob("0005*")):
        path.rename(folder / path.name.replace("0005", "0900"))


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (add, ["1 images more (7, were 6)", "1 identity with other images: Market1501:2"]),
        (remove, ["1 images fewer (5, were 6)", "1 identity with other images: Market1501:5"]),
        (replace, ["1 identity with other images: Market1501:5"]),
        (rename, ["file names, cameras, viewpoints or the order of the datasets changed; no counts did"]),
        (move_to_another_camera, ["cameras: 6, were 2"]),
        (new_identity, ["1 identity gone: Market1501:5", "1 identity new: Market1501:900"]),
    ],
)
def test_changes_are_found_and_described(folder, change, sentences):
    before = current(folder)
    state, fingerprint = before.state(), before.fingerprint()
    assert before.describe_changes(state) == []
    change(folder)
    after = current(folder)
    assert after.fingerprint() != fingerprint
    assert after.describe_changes(state) == sentences


def test_many_names_are_shortened(folder):
    state = current(folder).state()
    touch(folder, [f"{identity:04d}_c1s1_000000_00.jpg" for identity in range(500, 512)])
    assert "12 identities new: Market1501:500, " in current(folder).describe_changes(state)[1]
    assert current(folder).describe_changes(state)[1].endswith("...")


def test_state_survives_a_checkpoint_of_plain_types(folder):
    file = io.BytesIO()
    torch.save(current(folder).state(), file)
    file.seek(0)
    assert current(folder).describe_changes(torch.load(file, weights_only=True)) == []


def test_image_that_has_gone_is_named(folder):
    training_set = current(folder)
    remove(folder)
    with pytest.raises(FileNotFoundError, match=r"0005_c2s1_000001_00.jpg was there"):
        training_set.fingerprint()


def test_a_run_that_is_not_told_the_identities(two):
    told, not_told = TrainingSet(two), TrainingSet(two, use_labels=False)
    assert (not_told.targets == -1).all() and not_told.targets.dtype == torch.int64
    assert [record.pid for record in not_told.images] == [-1] * 5
    assert (not_told.num_identities, not_told.label_map) == (0, [])
    assert torch.equal(not_told.known_labels, told.targets) and torch.equal(told.known_labels, told.targets)
    for name in ("camids", "viewids"):
        assert torch.equal(getattr(not_told, name), getattr(told, name))
    assert (not_told.num_cameras, not_told.camera_offsets) == (told.num_cameras, told.camera_offsets)
    assert not_told.describe_changes(not_told.state()) == []
    assert not_told.describe_changes(told.state()), "one is not the other"


def test_images_that_nobody_labelled_are_trained_on_without_labels(two):
    two[0].train.pids[:] = -1
    training_set = TrainingSet(two[:1], use_labels=False)
    assert training_set.known_labels.tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="set DATASETS.USE_LABELS False"):
        TrainingSet(two[:1])


def test_labels_of_own_data_carry_the_names_so_that_another_identity_renames_none(tmp_path):
    touch(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    rows = ["path,pid", "a.jpg,bert", "b.jpg,dora", "c.jpg,", os.fsdecode(b"d.jpg,caf\xe9")]
    (tmp_path / "crops.csv").write_text("\n".join(rows), errors="surrogateescape")
    before = TrainingSet([Manifest(str(tmp_path), "crops.csv")])
    assert before.label_map == ["crops:bert", r"crops:caf\udce9", "crops:dora"]
    assert before.targets.tolist() == [0, 2, -1, 1]
    state = before.state()
    (tmp_path / "crops.csv").write_text("\n".join([*rows[:3], "c.jpg,anna", rows[4]]), errors="surrogateescape")
    after = TrainingSet([Manifest(str(tmp_path), "crops.csv")])
    assert after.label_map == ["crops:anna", *before.label_map] and after.targets.tolist() == [1, 3, 0, 2]
    assert after.describe_changes(state) == ["1 identity new: crops:anna"]
