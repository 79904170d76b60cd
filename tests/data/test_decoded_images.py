import os

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.data import images as decoding
from reid_core.data import read_image
from reid_core.data.decoded_images import DecodedImages
from reid_core.data.transforms import Resize
from tests.data.conftest import write_image


@pytest.fixture
def paths(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.jpg", number, (70 + number, 150))
    return [str(tmp_path / f"{number}.jpg") for number in range(3)]


def test_images_are_decoded_and_resized(paths):
    resize = Resize((64, 32), "bicubic")
    assert all(torch.equal(image, read_image(path)) for image, path in zip(DecodedImages(paths), paths, strict=True))
    for path, image in zip(paths, DecodedImages(paths, resize), strict=True):
        assert torch.equal(image, resize(read_image(path)))


def test_scaled_decoding_needs_a_size_to_scale_for(paths):
    resize = Resize((64, 32))
    scaled = DecodedImages(paths, resize, scaled_decoding=True)
    assert torch.equal(scaled[0], resize(read_image(paths[0], (64, 32))))
    assert not torch.equal(scaled[0], resize(read_image(paths[0])))
    assert torch.equal(DecodedImages(paths, None, scaled_decoding=True)[0], read_image(paths[0]))


def test_sizes_are_known_without_decoding(paths):
    assert [DecodedImages(paths).size(position) for position in range(3)] == [(150, 70), (150, 71), (150, 72)]
    assert DecodedImages(paths, Resize((9, 7))).size(2) == (9, 7)


def test_fingerprint_sees_every_change(paths, monkeypatch):
    resize = Resize((64, 32))
    first = DecodedImages(paths, resize).fingerprint()
    assert DecodedImages(list(paths), Resize([64, 32])).fingerprint() == first
    others = [
        DecodedImages(paths),
        DecodedImages(paths, Resize((64, 33))),
        DecodedImages(paths, Resize((64, 32), "bicubic")),
        DecodedImages(paths, resize, scaled_decoding=True),
        DecodedImages(paths[:2], resize),
        DecodedImages(paths[::-1], resize),
    ]
    found = {first, *(other.fingerprint() for other in others)}
    os.utime(paths[0], ns=(0, 12345))
    found.add(DecodedImages(paths, resize).fingerprint())
    with open(paths[1], "ab") as file:
        file.write(b"x")
    found.add(DecodedImages(paths, resize).fingerprint())
    monkeypatch.setattr(decoding, "simplejpeg", None)
    found.add(DecodedImages(paths, resize).fingerprint())
    assert len(found) == len(others) + 4
    os.unlink(paths[2])
    with pytest.raises(FileNotFoundError, match=r"2.jpg is listed by the dataset but not on disk"):
        DecodedImages(paths, resize).fingerprint()


def test_scaled_decoding_hardly_changes_what_a_photo_looks_like(tmp_path):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 12, 3), dtype=np.uint8)).resize((300, 700), 3)
    coarse.save(tmp_path / "a.jpg", quality=90)
    plain, scaled = (DecodedImages([str(tmp_path / "a.jpg")], Resize((256, 128)), on)[0].float() for on in (0, 1))
    difference = (plain - scaled).abs()
    assert 0 < difference.mean() < 1 and difference.max() < 30
