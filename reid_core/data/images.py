"""From an image file to a tensor; what cannot be decoded is an error with the file's name.

An unreadable image is never replaced or retried: a run that trained on other images than it lists cannot be
repeated, and a file that does not decode now will not decode the next time.

JPEG files are decoded by libjpeg-turbo directly (simplejpeg), which is two to three times as fast as through Pillow
and gives the same pixels. Whatever it does not take as it stands (other formats, CMYK, files with the least fault)
goes to Pillow, whose judgement counts.
"""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

try:
    import simplejpeg
except ImportError:  # there are platforms without a wheel of it; nothing but the speed differs
    simplejpeg = None

# What Pillow raises on broken files besides OSError, depending on the format and on where the file is broken.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def read_image(path: str, at_least: Sequence[int] | None = None) -> Tensor:
    """Decode an image file. Returns uint8 [3, H, W], RGB.

    at_least: height, width in pixels. A JPEG that is at least twice as large in both directions is decoded at 1/2, 1/4
    or 1/8 of its size (by a smaller inverse transform of its blocks), never to less than this.

    Grayscale (8 and 16 bit), palette, CMYK and images with transparency are converted. An EXIF orientation is
    ignored, as the published programs ignore it: the datasets' images are crops that a detector or a person cut from
    upright video frames, so the flag (left behind by an editing program) does not describe them, and obeying it would
    turn people on their side in one copy of a dataset and not in another.

    Raises FileNotFoundError if there is no such file, OSError naming the file and its size if it cannot be read or
    decoded.
    """
    content = _read(path)
    pixels = _decode_jpeg(content, at_least)
    if pixels is None:
        try:
            with Image.open(io.BytesIO(content)) as image:
                if at_least is not None:
                    image.draft(None, tuple(at_least[::-1]))
                pixels = np.array(_to_rgb(image))
        except _DECODE_ERRORS as error:
            raise _undecodable(path, content, error) from error
    # Left as a view of rows of RGB pixels: torchvision resizes that layout about twice as fast.
    return torch.from_numpy(pixels).permute(2, 0, 1)


def pixels_of(image: Image.Image) -> Tensor:
    """uint8 [3, H, W], RGB, of an image that Pillow holds; converted as `read_image` converts files."""
    return torch.from_numpy(np.array(_to_rgb(image))).permute(2, 0, 1)


def read_size(path: str) -> tuple[int, int]:
    """Height and width of an image file, from its header. Raises as `read_image`."""
    content = _read(path)
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.height, image.width
    except _DECODE_ERRORS as error:
        raise _undecodable(path, content, error) from error


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is listed by the dataset but not on disk; was it moved after indexing?"
        ) from None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror}. Check its permissions and the disk.") from error


def _decode_jpeg(content: bytes, at_least: Sequence[int] | None) -> np.ndarray | None:
    """uint8 [H, W, 3] of a flawless JPEG of usual size and colours; None for all else."""
    if simplejpeg is None or content[:2] != b"\xff\xd8":
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(content)
        if colors not in ("YCbCr", "Gray") or height * width > (Image.MAX_IMAGE_PIXELS or float("inf")):
            return None
        factor = _reduction(height, width, at_least)
        if factor == 1:
            return simplejpeg.decode_jpeg(content)
        smallest = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
        return simplejpeg.decode_jpeg(content, **smallest, min_factor=factor)
    except ValueError:  # also for what a decoder can repair: whether that counts as an image is for Pillow to say
        return None


def _reduction(height: int, width: int, at_least: Sequence[int] | None) -> int:
    """The factor that Pillow's draft mode chooses."""
    if at_least is None:
        return 1
    room = min(height // at_least[0], width // at_least[1])
    return next(factor for factor in (8, 4, 2, 1) if factor <= max(room, 1))


def reason_of_refusal(path: str) -> str:
    """Why `read_image` refuses a file, in words; "" if it does not."""
    try:
        read_image(path)
    except OSError as error:
        return str(error)
    return ""


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grayscale: Pillow's own conversion clips at 255 instead of scaling
        values = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _undecodable(path: str, content: bytes, error: Exception) -> OSError:
    if not content:
        reason = "it is empty"
    elif isinstance(error, Image.UnidentifiedImageError):
        reason = "its content is not that of a known image format"
    else:
        reason = str(error).rstrip(".") or type(error).__name__
    return OSError(f"{path} ({len(content)} bytes) cannot be decoded: {reason}. Delete or re-extract it.")
