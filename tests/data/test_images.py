import io

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.data import images as decoding
from reid_core.data import read_image
from reid_core.data.images import read_size, reason_of_refusal


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)


def test_png_is_exact(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(str(tmp_path / "a.png"))
    assert image.dtype == torch.uint8 and image.shape == (3, 24, 16)
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), pixels)


def test_jpeg_is_what_pillow_decodes(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as expected:
        result = read_image(str(tmp_path / "a.jpg")).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(result, np.asarray(expected))


@pytest.mark.parametrize(("mode", "suffix"), [("L", "jpg"), ("L", "png"), ("1", "png"), ("LA", "png"), ("RGBA", "png")])
def test_other_modes_become_rgb(tmp_path, pixels, mode, suffix):
    source = Image.fromarray(pixels).convert(mode)
    source.save(tmp_path / f"a.{suffix}", **({"quality": 100} if suffix == "jpg" else {}))
    image = read_image(str(tmp_path / f"a.{suffix}"))
    expected = torch.from_numpy(np.array(source.convert("RGB"))).permute(2, 0, 1)
    assert image.shape == (3, 24, 16) and image.dtype == torch.uint8
    assert (image.int() - expected.int()).abs().max() <= (2 if suffix == "jpg" else 0)


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    red = Image.new("RGB", (16, 24), (200, 30, 20))
    red.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    colour = read_image(str(tmp_path / "a.jpg")).float().mean(dim=(1, 2))
    assert (colour - torch.tensor([200.0, 30.0, 20.0])).abs().max() < 4


@pytest.mark.parametrize("transparent", [False, True])
def test_palette(tmp_path, pixels, transparent, recwarn):
    source = Image.fromarray(pixels).quantize(16)
    source.save(tmp_path / "a.png", **({"transparency": bytes(range(16))} if transparent else {}))
    expected = torch.from_numpy(np.array(source.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(read_image(str(tmp_path / "a.png")), expected)
    assert not recwarn


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 255, 256], [32768, 40000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    image = read_image(str(tmp_path / "a.png"))
    assert image[0].tolist() == [[0, 0, 1], [128, 156, 255]] and torch.equal(image[0], image[2])


def test_orientation_flag_is_ignored(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn a quarter"
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(str(tmp_path / "a.jpg")).shape == (3, 24, 16)


def encoded(pixels, kind):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_the_reason_of_a_refusal_is_the_error_s_text(tmp_path, pixels):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(encoded(pixels, "JPEG"))
    bad.write_bytes(b"")
    with pytest.raises(OSError) as raised:
        read_image(str(bad))
    assert reason_of_refusal(str(bad)) == str(raised.value) != ""
    assert reason_of_refusal(str(good)) == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_image_names_file_size_and_remedy(tmp_path, pixels, kind, share):
    content = encoded(pixels, kind)
    path = tmp_path / "broken.jpg"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(OSError, match=rf"broken.jpg \({path.stat().st_size} bytes\) cannot be decoded: .*re-extract"):
        read_image(str(path))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "it is empty"), (b"<html>not found</html>", "known image format")]
)
def test_what_is_no_image(tmp_path, content, reason):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(OSError, match=reason):
        read_image(str(path))


def test_every_damaged_byte_is_an_image_or_an_oserror(tmp_path, pixels):
    rng, path = np.random.default_rng(1), tmp_path / "a.png"
    for kind in ("JPEG", "PNG"):
        content = bytearray(encoded(pixels, kind))
        for _ in range(200):
            damaged = content.copy()
            damaged[rng.integers(len(damaged))] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                assert read_image(str(path)).dtype == torch.uint8
            except OSError as error:
                assert "a.png" in str(error)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.jpg is listed by the dataset but not on disk"):
        read_image(str(tmp_path / "gone.jpg"))


def test_file_that_cannot_be_read(tmp_path):
    with pytest.raises(OSError, match=r"cannot be read: Is a directory"):
        read_image(str(tmp_path))


def jpeg(pixels, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def outcome(path, at_least=None):
    """The image, or the error's text."""
    try:
        return read_image(str(path), at_least)
    except OSError as error:
        return str(error)


def both_outcomes(path, monkeypatch, at_least=None):
    fast = outcome(path, at_least)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "simplejpeg", None)
        return fast, outcome(path, at_least)


def assert_same(fast, slow):
    assert torch.equal(fast, slow) if isinstance(slow, torch.Tensor) else fast == slow


KINDS = [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"quality": 30}, {"mode": "L"}]
KINDS += [{"mode": "CMYK"}, {"keep_rgb": True}]


@pytest.mark.skipif(decoding.simplejpeg is None, reason="there is no second decoder here")
@pytest.mark.parametrize("options", KINDS)
def test_both_decoders_judge_damaged_files_alike(tmp_path, pixels, options, monkeypatch):
    rng, path, content = np.random.default_rng(2), tmp_path / "a.jpg", jpeg(pixels, **options)
    results = []
    for kind in ("whole", *["byte"] * 60, *["cut"] * 30, *["gap"] * 30):
        damaged, place = bytearray(content), rng.integers(len(content))
        if kind == "byte":
            damaged[place] = rng.integers(256)
        elif kind != "whole":
            del damaged[place : None if kind == "cut" else place + 5]
        path.write_bytes(damaged)
        fast, slow = both_outcomes(path, monkeypatch)
        assert_same(fast, slow)
        results.append(isinstance(slow, torch.Tensor))
    assert results[0] and 10 < sum(results) < len(results) - 10


@pytest.mark.skipif(decoding.simplejpeg is None, reason="there is no second decoder here")
@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("size", [(64, 48), (65, 49), (127, 200), (150, 71)])
def test_scaled_decoding_is_that_of_pillows_draft_mode(tmp_path, options, size, monkeypatch):
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    (tmp_path / "a.jpg").write_bytes(jpeg(pixels, **options))
    for at_least in ((64, 48), (32, 24), (31, 8), (16, 12), (8, 6), (3, 2), (200, 200)):
        fast, slow = both_outcomes(tmp_path / "a.jpg", monkeypatch, at_least)
        assert_same(fast, slow)
        factor = max(f for f in (1, 2, 4, 8) if f == 1 or all(s >= f * a for s, a in zip(size, at_least, strict=True)))
        assert fast.shape == (3, *(-(-length // factor) for length in size))


def test_scaled_decoding_is_for_jpeg_alone_and_looks_like_the_image(tmp_path):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (96, 1)), np.tile(np.linspace(0, 255, 96).astype(np.uint8)[:, None], 64)] * 2, -1)
    for suffix, size in (("png", (96, 64)), ("jpg", (24, 16))):
        Image.fromarray(pixels[..., :3]).save(tmp_path / f"a.{suffix}", **({"quality": 95} if suffix == "jpg" else {}))
        image = read_image(str(tmp_path / f"a.{suffix}"), (24, 16))
        assert image.shape == (3, *size)
        expected = pixels[..., :3].reshape(size[0], 96 // size[0], size[1], 64 // size[1], 3).mean(axis=(1, 3))
        assert abs(image.permute(1, 2, 0).numpy() - expected).max() < 6


def test_a_decompression_bomb_is_an_error(tmp_path, pixels, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for kind in ("JPEG", "PNG"):
        (tmp_path / "a.jpg").write_bytes(encoded(pixels, kind))
        with pytest.raises(OSError, match=r"a.jpg .* cannot be decoded: .*exceeds limit of 200 pixels"):
            read_image(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_size_from_the_header(tmp_path, pixels, kind):
    (tmp_path / "a").write_bytes(encoded(pixels, kind))
    assert read_size(str(tmp_path / "a")) == (24, 16)
    (tmp_path / "a").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"a \(8 bytes\) cannot be decoded: its content is not that of a known"):
        read_size(str(tmp_path / "a"))
    with pytest.raises(FileNotFoundError, match="listed by the dataset but not on disk"):
        read_size(str(tmp_path / "gone"))
