"""The classical baseline: colour histograms of horizontal stripes, no learning."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

STRIPES = 8
BINS = (12, 4, 4)  # hue, saturation, value


def color_histogram_features(images: Iterable[Tensor | str | Path]) -> np.ndarray:
    """HSV histograms over 8 horizontal stripes, each normalised, square-rooted (Hellinger) and joined.

    images: uint8 tensors [3, H, W] or paths of image files. The middle three fifths of the columns are counted, where
    the person or vehicle stands; grey-world balancing takes the mean colour out first, as a camera's colour cast.
    Returns float32 [N, 1536], rows of unit length. Raises OSError for a file that cannot be read.
    """
    rows = [_features(_pixels(image)) for image in images]
    return np.stack(rows) if rows else np.zeros((0, STRIPES * int(np.prod(BINS))), dtype=np.float32)


def _pixels(image: Tensor | str | Path) -> np.ndarray:
    if isinstance(image, Tensor):
        return image.permute(1, 2, 0).numpy()
    with Image.open(image) as file:
        return np.asarray(file.convert("RGB"))


def _features(pixels: np.ndarray) -> np.ndarray:
    balanced = pixels * (pixels.mean() / np.maximum(pixels.mean(axis=(0, 1)), 1.0))
    picture = Image.fromarray(balanced.clip(0, 255).astype(np.uint8)).convert("HSV")
    hsv = np.asarray(picture)[:, pixels.shape[1] // 5 : -(pixels.shape[1] // 5) or None]
    stripes = []
    for stripe in np.array_split(hsv.reshape(hsv.shape[0], -1, 3), STRIPES, axis=0):
        codes = np.zeros(stripe.shape[:2], dtype=np.int64)
        for channel, bins in enumerate(BINS):
            codes = codes * bins + stripe[:, :, channel].astype(np.int64) * bins // 256
        counts = np.bincount(codes.ravel(), minlength=int(np.prod(BINS)))
        stripes.append(np.sqrt(counts / max(counts.sum(), 1)))
    features = np.concatenate(stripes)
    return (features / np.linalg.norm(features)).astype(np.float32)
