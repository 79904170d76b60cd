import io

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.data import read_image


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
