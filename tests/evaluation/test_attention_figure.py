"""Attention overlays: the hottest place is where the map's largest value is; light stays what has least."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.evaluation.attention_figure import attention_figure


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def grey(count: int) -> torch.Tensor:
    return torch.full((count, 3, 64, 32), 200, dtype=torch.uint8)


def redness(picture: np.ndarray) -> np.ndarray:
    return picture[:, :, 0] - picture[:, :, 1]


@pytest.mark.parametrize("place", [(0, 0), (3, 1)])
def test_the_largest_value_is_drawn_reddest_and_where_it_is(place):
    maps = torch.zeros(1, 4, 2)
    maps[0][place] = 0.01
    picture = redness(pixels(attention_figure(grey(1), {"model": maps}, ["id 1"])))
    picture = picture[: picture.shape[0] * 3 // 4]  # without the colour bar
    rows, columns = np.nonzero(picture > 0.9 * picture.max())
    assert picture.max() > 60
    assert (rows.mean() > picture.shape[0] / 2) == (place[0] > 1)
    assert (columns.mean() > picture.shape[1] * 0.74) == (place[1] > 0)
    assert columns.min() > picture.shape[1] / 2  # the image itself has no colour


def test_a_column_for_each_model_a_row_for_each_image_the_same_bytes_twice():
    maps = torch.rand(3, 4, 2)
    draw = [
        attention_figure(grey(count), dict.fromkeys(names, maps[:count]), ["x"] * count)
        for count, names in ((1, "a"), (1, "ab"), (1, "abc"), (2, "a"), (3, "a"), (3, "a"))
    ]
    height, width = zip(*(pixels(png).shape[:2] for png in draw), strict=True)
    assert width[1] - width[0] == pytest.approx(width[2] - width[1], abs=1)
    assert width[1] > 1.3 * width[0]
    assert height[4] - height[3] == pytest.approx(height[3] - height[0], abs=1)
    assert height[3] > 1.5 * height[0]
    assert draw[4] == draw[5]


def test_an_even_map_is_drawn_without_attention():
    columns = {"a long name of a model, $ of \\several $ lines": torch.ones(1, 4, 2)}
    picture = pixels(attention_figure(grey(1), columns, [""]))
    assert redness(picture[: picture.shape[0] * 3 // 4]).max() < 30


@pytest.mark.parametrize(
    ("images", "columns", "names", "message"),
    [
        (grey(0), {"a": torch.rand(0, 4, 2)}, [], "0 images"),
        (grey(2), {}, ["x", "y"], "2 images, 0 columns"),
        (grey(2), {"a": torch.rand(3, 4, 2)}, ["x", "y"], "2 images, 3 maps of a"),
        (grey(2), {"a": torch.rand(2, 4, 2)}, ["x"], "2 images, 1 names"),
    ],
)
def test_refusals(images, columns, names, message):
    with pytest.raises(ValueError, match=message):
        attention_figure(images, columns, names)
