"""Kept features of test sets: what is written is read again, and what does not fit is refused by name."""

import pytest
import torch

from reid_core.data.image_table import ImageTable
from reid_core.evaluation.encoded_sets import EncodedSet, read_encoded, save_encoded
from reid_core.structures import ReIDImage


def table(pids, camids):
    return ImageTable.from_records(
        [ReIDImage(f"{pid}.jpg", pid, camid) for pid, camid in zip(pids, camids, strict=True)]
    )


def test_encoded_sets_come_back(tmp_path):
    records = {"A": (table([1, 2], [0, 0]), table([1, 1, 2], [1, 1, 1])), "B": (table([3], [0]), table([3], [1]))}
    sets = {
        name: EncodedSet(tuple(torch.randn(len(side), 4) for side in sides), sides) for name, sides in records.items()
    }
    path = tmp_path / "new" / "features.npz"
    save_encoded(path, sets, "output/best.pt")
    assert list(path.parent.iterdir()) == [path]
    found, weights = read_encoded(path, records)
    assert weights == "output/best.pt"
    for name, encoded in sets.items():
        for side, expected in zip(found[name].features, encoded.features, strict=True):
            assert (side == expected.numpy()).all()
    with pytest.raises(ValueError, match="holds no features of C, but of A, B; write it with --save-features"):
        read_encoded(path, {"C": records["A"]})
    other = (table([1, 2], [0, 1]), records["A"][1])
    with pytest.raises(ValueError, match="made from another A: its 2 query images are not the 2 that are there now"):
        read_encoded(path, {"A": other})


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_files_that_are_none(tmp_path, content):
    (tmp_path / "q.npz").write_bytes(content)
    with pytest.raises(ValueError, match="q.npz is no .npz file of plain arrays"):
        read_encoded(tmp_path / "q.npz", {})
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_encoded(tmp_path / "gone.npz", {})
