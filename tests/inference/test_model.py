"""encode and similarity: the features of evaluation, whatever way the images come."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import reid_core as reid
from reid_core.data.loader import build_test_loader
from reid_core.engine.encoding import encode
from reid_core.engine.test_sets import TestSets, build_datasets


@pytest.fixture(scope="module")
def model(checkpoint):
    return reid.load(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def expected(model, gallery):
    """Features of the gallery's images by the evaluation's way, by file name."""
    records = build_datasets(model.cfg, ["Market1501"])["Market1501"].gallery
    features = F.normalize(encode(model.model, _without_cameras(build_test_loader(model.cfg, records))), dim=1)
    return {record.path: row for record, row in zip(records, features, strict=True)}


def _without_cameras(batches):
    for batch in batches:
        yield {key: value for key, value in batch.items() if key not in ("camids", "viewids")}


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_folder_gives_the_evaluations_features(model, gallery, expected, batch_size, num_workers):
    features = model.encode(gallery, batch_size=batch_size, num_workers=num_workers)
    paths = sorted(map(str, gallery.iterdir()))
    assert features.shape == (12, 48)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, torch.stack([expected[path] for path in paths]), atol=1e-6)


def test_every_form_of_an_image_gives_the_same_features(model, gallery):
    paths = sorted(gallery.iterdir())[:3]
    arrays = [np.array(Image.open(path)) for path in paths]
    tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    features = model.encode([str(path) for path in paths])
    forms = {
        "paths": paths,
        "pillow": [Image.open(path) for path in paths],
        "arrays": arrays,
        "one array": np.stack(arrays),
        "generator": (path for path in paths),
        "mixed": [paths[0], arrays[1], Image.open(paths[2])],
    }
    for name, form in forms.items():
        found = model.encode(form)
        assert isinstance(found, np.ndarray), name
        assert np.array_equal(found, features), name
    for form in (tensors, torch.stack(tensors), iter(tensors)):
        found = model.encode(form)
        assert isinstance(found, torch.Tensor)
        assert np.array_equal(found.numpy(), features)
    (found + torch.ones(48, requires_grad=True)).sum().backward()  # an ordinary tensor, of which a loss may be made
    np.testing.assert_allclose(model.encode(paths[1]), features[1:2], atol=1e-6)  # one alone


def test_sizes_may_differ_and_lengths_are_one(model):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, 40, 3), dtype=np.uint8) for height in (64, 90, 17)]
    features = model.encode(images)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(features[1:2], model.encode(images[1]), atol=1e-6)


def test_an_iterator_is_read_as_it_is_encoded(model):
    taken = []

    def stream():
        for number in range(100):
            taken.append(number)
            if number == 40:
                raise RuntimeError("the camera is gone")
            yield np.zeros((64, 32, 3), dtype=np.uint8)

    with pytest.raises(RuntimeError, match="the camera is gone"):
        model.encode(stream(), batch_size=4)
    assert taken[-1] == 40


def test_flip_adds_the_mirror_images_features(model, gallery):
    images = np.stack([np.array(Image.open(path)) for path in sorted(gallery.iterdir())[:4]])
    with torch.no_grad():
        tensors = torch.from_numpy(images).permute(0, 3, 1, 2)
        raw = model.model({"images": tensors}) + model.model({"images": tensors.flip(-1)})
    flipped = model.encode(images, flip=True)
    np.testing.assert_allclose(flipped, F.normalize(raw, dim=1), atol=1e-6)
    assert np.abs(flipped - model.encode(images)).max() > 1e-3
    np.testing.assert_allclose(flipped, model.encode(images[:, :, ::-1], flip=True), atol=1e-6)


def test_similarity_is_the_cosine(model):
    a, b = np.random.default_rng(0).normal(size=(3, 5)), np.random.default_rng(1).normal(size=(2, 5))
    plain = [[x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for y in b] for x in a]
    np.testing.assert_allclose(model.similarity(a, b), plain, atol=1e-6)
    assert isinstance(model.similarity(torch.from_numpy(a), torch.from_numpy(b)), torch.Tensor)
    with pytest.raises(ValueError, match=r"\[3, 5\] and \[2, 4\]"):
        model.similarity(a, b[:, :4])


def test_side_information(camera_checkpoint, monkeypatch):
    said = []
    monkeypatch.setattr(logging.getLogger("reid"), "warning", lambda text, *values: said.append(text % values))
    model = reid.load(camera_checkpoint, device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 32, 3), dtype=np.uint8)
    without = model.encode(images)
    model.encode(images)
    assert said == [
        "The model was trained with side information (2 cameras, 0 viewpoints): without camids and viewids images are "
        "encoded without that embedding."
    ]
    known = model.encode(images, camids=[0, 1, -1], batch_size=2)
    assert np.allclose(known[2], without[2], atol=1e-6)
    assert np.abs(known[:2] - without[:2]).max() > 1e-4
    datasets = build_datasets(model.cfg, ["Market1501"])
    evaluated = TestSets(model.cfg, datasets, model.camera_offsets).encode(model.model, "Market1501")[1]
    records = datasets["Market1501"].gallery
    camids = [record.camid + model.camera_offsets["Market1501"] for record in records]
    features = model.encode([record.path for record in records], camids=camids)
    np.testing.assert_allclose(features, F.normalize(evaluated, dim=1), atol=1e-6)
    for camids, problem in [([0, 1], "there are more images"), ([0] * 4, "one number for each of the 3 images, got 4")]:
        with pytest.raises(ValueError, match=problem):
            model.encode(images, camids=camids)
    with pytest.raises(ValueError, match="camids holds 2, the model knows 0 to 1"):
        model.encode(images, camids=[0, 1, 2])


def test_16_bits_are_near_float32(checkpoint, model, gallery):
    short = reid.load(checkpoint, device="cpu", precision="bfloat16")
    assert {p.dtype for p in short.model.backbone.parameters()} == {torch.float32, torch.bfloat16}
    features = short.encode(gallery)
    assert features.dtype == np.float32
    cosines = (features * model.encode(gallery)).sum(axis=1)
    assert 0.99 < cosines.min() < 1
    with pytest.raises(ValueError, match="float32, bfloat16, float16 or auto, got 'half'"):
        reid.load(checkpoint, device="cpu", precision="half")


def _float_image():
    return np.zeros((64, 32, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        (_float_image(), ValueError, "must be uint8, got float32"),
        (torch.zeros(3, 64, 32), ValueError, "must be uint8, got float32"),
        (
            np.zeros((3, 64, 32), dtype=np.uint8),
            ValueError,
            r"\[H, W, 3\] or \[B, H, W, 3\], RGB, got shape \[3, 64, 32\]",
        ),
        (torch.zeros(64, 32, 3, dtype=torch.uint8), ValueError, r"\[3, H, W\] or \[B, 3, H, W\], RGB"),
        (np.zeros((64, 32), dtype=np.uint8), ValueError, "got shape"),
        ([], ValueError, "no images to encode"),
        ([3], TypeError, "got int 3"),
        (b"\xff\xd8", TypeError, "got bytes"),
        ({"a": 1}, TypeError, "got dict"),
        (None, TypeError, "got NoneType None"),
        ("nowhere.jpg", FileNotFoundError, "neither an image nor a folder nowhere.jpg"),
        (
            [torch.zeros(3, 64, 32, dtype=torch.uint8), np.zeros((64, 32, 3), dtype=np.uint8)],
            TypeError,
            "cannot be mixed",
        ),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(model, images, error, text):
    with pytest.raises(error, match=text) as caught:
        model.encode(images)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_images(model, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="holds no image: no file below it ends in"):
        model.encode(empty)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(OSError, match=r"broken\.jpg \(3 bytes\) cannot be decoded"):
        model.encode([broken])
    huge = tmp_path / "huge.png"
    Image.fromarray(np.zeros((200, 200), dtype=np.uint8)).save(huge)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(OSError, match=r"huge\.png .* cannot be decoded: .*limit"):
        model.encode(huge)


def test_numbers_that_make_no_sense(model):
    with pytest.raises(ValueError, match="batch_size must be positive"):
        model.encode(np.zeros((64, 32, 3), dtype=np.uint8), batch_size=0)
    with pytest.raises(ValueError, match="trained without embeddings for viewids"):
        model.encode(np.zeros((64, 32, 3), dtype=np.uint8), viewids=[0])
