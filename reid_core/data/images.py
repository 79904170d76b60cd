"""From an image file to a tensor; what cannot be decoded stops the run with the file's name.

An unreadable image is never replaced or retried: a run that trained on other images than it lists cannot be
repeated, and a file that does not decode now will not decode the next time.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# What Pillow raises on broken files besides OSError, depending on the format and on where the file is broken.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def read_image(path: str) -> Tensor:
    """Decode an image file. Returns uint8 [3, H, W], RGB.

    Grayscale (8 and 16 bit), palette, CMYK and images with transparency are converted. An EXIF orientation is
    ignored, as the published programs ignore it: the datasets' images are crops that a detector or a person cut from
    upright video frames, so the flag (left behind by an editing program) does not describe them, and obeying it would
    turn people on their side in one copy of a dataset and not in another.

    Raises FileNotFoundError if there is no such file, OSError naming the file and its size if it cannot be read or
    decoded.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is listed by the dataset but not on disk; was it moved after indexing?"
        ) from None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror}. Check its permissions and the disk.") from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.array(_to_rgb(image))
    except _DECODE_ERRORS as error:
        reason = "it is empty" if not content else _reason(error)
        raise OSError(
            f"{path} ({len(content)} bytes) cannot be decoded: {reason}. Delete or re-extract it."
        ) from error
    # Left as a view of rows of RGB pixels: torchvision resizes that layout about twice as fast.
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grayscale: Pillow's own conversion clips at 255 instead of scaling
        values = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "its content is not that of a known image format"
    return str(error).rstrip(".") or type(error).__name__
