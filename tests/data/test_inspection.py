import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from reid_core.data.datasets import ImageFolder, Manifest, Market1501
from reid_core.data.inspection import histogram, inspect_dataset, scan_images, write_dataset_sheet
from tests.data.conftest import write_image, write_market


@pytest.fixture
def shop(tmp_path):
    """Four identities by two cameras; identity b has a broken, an empty and a larger image."""
    for number, name in enumerate(["train/a/1_c1.jpg", "train/a/2_c2.jpg", "train/b/3_c1.png", "query/c/4_c1.jpg"]):
        write_image(tmp_path / "shop" / name, seed=number)
    write_image(tmp_path / "shop/train/b/5_c2.jpg", seed=5, size=(64, 80))
    write_image(tmp_path / "shop/gallery/c/6_c2.jpg", seed=6)
    folder = tmp_path / "shop/train/b"
    (folder / "7_c1.jpg").write_bytes((folder / "5_c2.jpg").read_bytes()[:400])
    (folder / "8_c1.jpg").touch()
    (tmp_path / "shop/gallery/a").mkdir()
    shutil.copy(tmp_path / "shop/train/a/2_c2.jpg", tmp_path / "shop/gallery/a/9_c1.jpg")
    return ImageFolder(str(tmp_path), "shop", pattern=r"_c(?P<camid>\d)")


@pytest.mark.parametrize("workers", [1, 3])
def test_sizes_broken_files_and_images_on_both_sides(shop, workers):
    inspection = inspect_dataset(shop, workers)
    train = inspection.scans["train"]
    assert train.sizes.tolist() == [[64, 32], [64, 32], [64, 32], [80, 64], [0, 0], [0, 0]]
    assert sorted(train.problems) == [4, 5]
    assert "7_c1.jpg (400 bytes) cannot be decoded" in inspection.broken[0]
    assert "8_c1.jpg" in inspection.broken[1] and "it is empty" in inspection.broken[1]
    assert inspection.duplicates == [("train/a/2_c2.jpg", "gallery/a/9_c1.jpg")]
    text = inspection.text()
    assert "| train   | 6        | 2            | 0             | 2         | 2 / 3 / 4" in text
    assert "64 / 64 / 80" in text and "32 / 32 / 64" in text
    assert "2 images cannot be used:" in text
    assert "1 test images have the pixels of a training image:\n  train/a/2_c2.jpg = gallery/a/9_c1.jpg" in text


def test_names_alone(shop):
    inspection = inspect_dataset(shop, read_images=False)
    assert not inspection.scans and not inspection.broken
    assert "broken" not in inspection.text() and "2 / 3 / 4" in inspection.text()


def test_no_cameras_and_no_identities(tmp_path):
    write_image(tmp_path / "x.jpg", 1)
    (tmp_path / "a.csv").write_text("path,pid\nx.jpg,\n")
    text = inspect_dataset(Manifest(str(tmp_path), "a.csv")).text()
    assert "unknown" in text and "| train   | 1        | 0            | 1 " in text and "no identities" in text


def test_many_images_are_read_in_their_order_whatever_the_threads(tmp_path, monkeypatch):
    monkeypatch.setattr("reid_core.data.inspection._CHUNK", 3)
    paths = [str(tmp_path / f"{number}.png") for number in range(10)]
    for number, path in enumerate(paths):
        if number != 7:
            Image.new("RGB", (10 + number, 20), (number, 0, 0)).save(path)
    one, four = scan_images(paths, 1), scan_images(paths, 4)
    assert one.sizes[:, 1].tolist() == [10, 11, 12, 13, 14, 15, 16, 0, 18, 19]
    assert list(one.problems) == [7] and one.problems == four.problems
    assert np.array_equal(one.digests, four.digests) and len(set(one.digests.tolist())) == 10
    with pytest.raises(ValueError, match="at least one thread, got 0"):
        scan_images(paths, 0)


@pytest.mark.parametrize("seed", range(5))
def test_histogram_counts_as_a_plain_loop(seed):
    pids = np.random.default_rng(seed).zipf(1.5, 300).clip(-1, 40) - (seed == 0)
    expected = Counter()
    for pid in set(pids.tolist()) - {-1}:
        number, high = int((pids == pid).sum()), 1
        while high < number:
            high *= 2
        expected[f"{high // 2 + 1} to {high}" if high > 2 else str(high)] += 1
    lines = [line.split("#")[0].rsplit(maxsplit=1) for line in histogram(pids).splitlines()]
    assert {name.strip(): int(count) for name, count in lines if int(count)} == dict(expected)


def test_sheet_shows_identities_by_camera(shop, tmp_path):
    write_dataset_sheet(tmp_path / "sheet.png", shop, per_camera=1)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    left = pixels.shape[1] - 2 * (64 + 2) - 2  # two cameras beside the names
    above = pixels.shape[0] - 2 * (128 + 2) - 2
    assert 0 < left < 60 and 0 < above < 30

    def cell(row, column):
        return pixels[above + 2 + row * 130 :, left + 2 + column * 66 :][:128, :64]

    shown = Image.open(shop.train[0].path).resize((64, 128), Image.Resampling.BICUBIC)
    assert np.abs(cell(0, 0) - np.asarray(shown)).max() <= 2
    assert cell(1, 0).std() > 5, "the first image of identity b by camera 1 is whole"


def test_sheet_crosses_broken_files_out_and_shows_what_has_no_identity(tmp_path):
    (tmp_path / "a.jpg").touch()
    write_image(tmp_path / "b.jpg", 1)
    (tmp_path / "m.csv").write_text("path,pid\na.jpg,\nb.jpg,\n")
    dataset = Manifest(str(tmp_path), "m.csv")
    write_dataset_sheet(tmp_path / "sheet.png", dataset, identities=1)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 132 and sheet.getpixel((sheet.width - 2 - 64 - 66 + 32, 66))[0] in range(140, 215)
        assert sheet.width >= 2 * 66 + 2
    with pytest.raises(ValueError, match="m has no query images to show"):
        write_dataset_sheet(tmp_path / "sheet.png", dataset, "query")


def test_a_registered_dataset_with_many_cameras(tmp_path):
    write_market(tmp_path, identities=3, images=6)
    dataset = Market1501(str(tmp_path))
    assert not inspect_dataset(dataset).broken
    write_dataset_sheet(tmp_path / "sheet.png", dataset, identities=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 11 * 66 and sheet.height > 2 * 130 and np.asarray(sheet).std() > 5
