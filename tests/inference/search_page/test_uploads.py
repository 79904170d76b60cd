"""What the browser sends: taken by its content, refused above the limits."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from reid_core.inference.search_page.errors import RefusedRequestError
from reid_core.inference.search_page.uploads import UploadLimits, decode_upload

LIMITS = UploadLimits(max_bytes=100_000, max_pixels=10_000)
GREEN = Image.new("RGB", (20, 40), (10, 200, 30))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width, height):
    """A PNG of this size whose pixels are missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b""))
    )


def refused(content):
    with pytest.raises(RefusedRequestError) as error:
        decode_upload(content, LIMITS)
    assert "\n" not in error.value.message
    return error.value.status


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_usual_pictures_are_taken(kind, mode):
    if kind == "JPEG" and mode == "RGBA":
        mode = "CMYK"
    image = decode_upload(encoded(GREEN.convert(mode), kind), LIMITS)
    expected = np.asarray(GREEN.convert(mode).convert("RGB"), dtype=int)
    assert image.mode == "RGB" and image.size == (20, 40)
    assert np.abs(np.asarray(image, dtype=int) - expected).max() < 25


def test_the_orientation_that_the_browser_shows_is_searched():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned = decode_upload(encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif), LIMITS)
    assert turned.size == (20, 40)


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html></html>",
        b"\x80\x04\x95 a pickle",
        encoded(GREEN, "GIF"),
        encoded(GREEN, "TIFF"),
        b"\xff\xd8",
    ],
)
def test_other_content_is_refused_whatever_it_calls_itself(content):
    assert refused(content) == 415


def test_broken_and_empty_files_are_refused():
    assert refused(b"") == 400
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8))
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        content = encoded(noise, kind)
        assert refused(content[: len(content) // 2]) in (400, 415)


@pytest.mark.parametrize("size", [(101, 100), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_many_pixels_in_a_small_file_are_refused_unread(size, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("a bomb was decoded"))
    content = png_header(*size)
    assert len(content) < 100
    assert refused(content) == 413


def test_the_limits_are_included():
    assert decode_upload(encoded(Image.new("RGB", (100, 100)), "PNG"), LIMITS).size == (100, 100)
    content = encoded(GREEN, "PNG")
    padded = content + bytes(LIMITS.max_bytes - len(content))
    assert decode_upload(padded, LIMITS).size == (20, 40)
    assert refused(padded + b"\0") == 413
