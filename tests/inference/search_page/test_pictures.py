"""Small copies and attention."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.inference.search_page.gallery_features import SideInformation
from reid_core.inference.search_page.pictures import (
    as_jpeg,
    attention_picture,
    overlay,
    shows_attention,
    small_image,
)

UNKNOWN = SideInformation(None, None)


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 128), (64, 128)), ((512, 512), (256, 256)), ((100, 3200), (10, 320))]
)
def test_small_images_fit_the_box_and_never_grow(size, expected, tmp_path):
    image = Image.new("RGB", size, (200, 10, 10))
    image.save(tmp_path / "a.png")
    assert small_image(image).size == small_image(str(tmp_path / "a.png")).size == expected
    assert image.size == size


def test_only_pixels_go_out(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "who is seen here"
    Image.new("RGB", (40, 80), (0, 200, 0)).save(tmp_path / "a.jpg", exif=exif, comment=b"a secret")
    sent = as_jpeg(small_image(str(tmp_path / "a.jpg")))
    assert b"secret" not in sent and b"who is seen" not in sent
    with Image.open(io.BytesIO(sent)) as again:
        assert again.size == (40, 80) and again.getpixel((5, 5))[1] > 180


def test_the_overlay_is_grey_where_attention_is_least_and_red_where_it_is_most():
    attention = torch.tensor([[0.0, 0.1], [0.2, 0.3]])
    pixels = np.asarray(overlay(Image.new("RGB", (40, 80), (20, 90, 160)), attention), dtype=int)
    least, most = pixels[0, 0], pixels[-1, -1]
    assert np.ptp(least) == 0
    assert most[0] > 100 and most[0] > 2 * most[1:].max()
    same = overlay(Image.new("RGB", (40, 80), (20, 90, 160)), 5 + 7 * attention)
    assert np.abs(np.asarray(same, dtype=int) - pixels).max() <= 1


def test_even_attention_leaves_the_image_grey():
    pixels = np.asarray(overlay(Image.new("RGB", (10, 20), (20, 90, 160)), torch.full((4, 2), 0.1)))
    assert np.ptp(pixels) == 0


def test_the_pictures_brightest_red_is_at_the_models_highest_share(models, collection):
    model, path = models["first"], collection.gallery[4].path
    assert shows_attention(model)
    with Image.open(io.BytesIO(attention_picture(model, path, UNKNOWN))) as drawn:
        assert drawn.size == (32, 64)
        pixels = np.asarray(drawn.convert("RGB"), dtype=int)
    image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None]  # of the model's size already
    shares = model.model.backbone.forward_attention(model.model.normalise(image)).rollout[0]
    row, column = np.unravel_index(int(shares.argmax()), shares.shape)
    redness = pixels[..., 0] - pixels[..., 2]
    cells = redness.reshape(shares.shape[0], 64 // shares.shape[0], shares.shape[1], -1).max(axis=(1, 3))
    assert cells[row, column] == cells.max()
    assert attention_picture(model, path, UNKNOWN) == attention_picture(model, Image.open(path), UNKNOWN)
