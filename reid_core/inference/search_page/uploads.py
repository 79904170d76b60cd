"""Images that come from the browser: judged by their content, within limits, in memory only."""

import io
import struct
import zlib
from dataclasses import dataclass

from PIL import Image, ImageOps

from reid_core.data.images import pixels_of
from reid_core.inference.search_page.errors import RefusedRequestError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""Pillow's names of what is decoded: common pictures, whose decoders see hostile files every day."""

_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, OverflowError)


@dataclass(frozen=True)
class UploadLimits:
    """max_bytes: of the file. max_pixels: of the decoded image, read from its header before anything is decoded."""

    max_bytes: int = 16 * 2**20
    max_pixels: int = 50_000_000  # of a telephone's camera; 150 MB while it is decoded


def decode_upload(content: bytes, limits: UploadLimits) -> Image.Image:
    """The image, RGB. An EXIF orientation is obeyed: the browser shows the picture that way, and people search with
    what they see (the datasets' own crops are another matter, see `read_image`).

    Raises RefusedRequestError: 400 for what is no whole image, 413 above the limits, 415 for another format.
    """
    if not content:
        raise RefusedRequestError(400, "No image was sent: the request is empty.")
    if len(content) > limits.max_bytes:
        raise too_large(limits)
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_many_pixels(limits) from None
    except _DECODE_ERRORS:
        raise RefusedRequestError(415, f"This is no image that the page reads ({', '.join(FORMATS)}).") from None
    with image:
        if image.width * image.height > limits.max_pixels:
            raise _too_many_pixels(limits)
        try:
            pixels = pixels_of(ImageOps.exif_transpose(image))
        except _DECODE_ERRORS:
            raise RefusedRequestError(400, "The image is broken: it cannot be decoded to its end.") from None
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def too_large(limits: UploadLimits) -> RefusedRequestError:
    """The answer to a file of too many bytes."""
    return RefusedRequestError(413, f"The file is too large: up to {limits.max_bytes / 2**20:g} MB are taken.")


def _too_many_pixels(limits: UploadLimits) -> RefusedRequestError:
    return RefusedRequestError(
        413, f"The image is too large: up to {limits.max_pixels / 1e6:g} million pixels are taken. Crop the object."
    )
