import logging
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from reid_core.data import RandomSampler, TestLoader, TrainingSet, TrainLoader, build_test_loader, build_transforms
from reid_core.data.decoded_images import DecodedImages
from reid_core.data.image_cache import ImageCache
from reid_core.data.transforms import Compose, RandomHorizontalFlip, Resize
from tests.data.conftest import write_image
from tests.data.test_loader import assert_equal, config

FORK = multiprocessing.get_context("fork")
SIZES = [(32, 64), (31, 50), (200, 400), (10, 7)]
RESIZES = [None, Resize((32, 16), "bicubic")]


@pytest.fixture
def paths(tmp_path):
    for number in range(12):
        write_image(tmp_path / f"{number}.{'jpg' if number % 3 else 'png'}", number, SIZES[number % 4])
    return [str(tmp_path / f"{number}.{'jpg' if number % 3 else 'png'}") for number in range(12)]


def files(folder):
    return sorted(entry.name for entry in folder.iterdir() if entry.name != "lock")


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("num_threads", [0, 3])
@pytest.mark.parametrize("scaled_decoding", [False, True])
def test_the_cache_holds_what_is_decoded(paths, tmp_path, resize, num_threads, scaled_decoding):
    images = DecodedImages(paths, resize, scaled_decoding)
    cache = ImageCache(images, tmp_path / "cache", num_threads)
    assert len(cache) == 12
    for position in (3, 11, 0, *range(12)):
        assert torch.equal(cache[position], images[position]) and cache[position].stride() == images[position].stride()
    cache[5].zero_()
    assert torch.equal(cache[5], images[5]), "each image has its own memory"
    with pytest.raises(IndexError):
        cache[12]


def test_it_is_built_once_and_costs_what_the_log_says(paths, tmp_path, log, monkeypatch):
    log.set_level(logging.INFO, logger="reid")
    images, folder = DecodedImages(paths, RESIZES[1]), tmp_path / "cache"
    monkeypatch.setattr("reid_core.data.threads._BLOCK", 5)
    path = ImageCache(images, folder).path
    assert path.stat().st_size == 12 * (3 * 32 * 16 + 8) and files(folder) == [path.name]
    assert f"Cache of 12 decoded images: 0 MB in {folder}, where" in log.messages[0]
    log.clear()
    monkeypatch.setattr("reid_core.data.image_cache._build", None)
    again = ImageCache(DecodedImages(list(paths), Resize([32, 16], "bicubic")), str(folder))
    assert torch.equal(again[7], images[7]) and not log.messages


def test_a_changed_image_or_setting_is_another_cache(paths, tmp_path, log):
    log.set_level(logging.INFO, logger="reid")
    folder = tmp_path / "cache"
    first = ImageCache(DecodedImages(paths, RESIZES[1]), folder)
    write_image(tmp_path / "1.jpg", 99, SIZES[1])
    os.utime(tmp_path / "1.jpg", ns=(1, 1))
    for resize in RESIZES:
        images = DecodedImages(paths, resize)
        cache = ImageCache(images, folder)
        assert all(torch.equal(cache[position], images[position]) for position in range(12))
    assert not torch.equal(first[1], DecodedImages(paths, RESIZES[1])[1]) and len(files(folder)) == 3
    assert "holds 2 other caches, 1 MB; those of settings or images that are no longer used can be deleted" in log.text


def test_an_empty_list_of_files(tmp_path):
    assert len(ImageCache(DecodedImages([], RESIZES[1]), tmp_path)) == 0


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("inputs", [{}, {"EXTRA_VIEWS": 1, "ERASING_FILL": "noise"}])
def test_batches_are_the_same_with_and_without(market, tmp_path, num_workers, inputs):
    training_set, transform = TrainingSet([market]), build_transforms(config(**inputs), train=True)
    batches = []
    for cache_dir in ("", str(tmp_path / "cache"), str(tmp_path / "cache")):
        sampler = RandomSampler(training_set.targets, 8, seed=1)
        loader = TrainLoader(training_set, sampler, transform, num_workers=num_workers, seed=1, cache_dir=cache_dir)
        batches.append([batch for epoch in range(2) for batch in loader.epoch(epoch)])
        loader.close()
    assert_equal(batches[1], batches[0])
    assert_equal(batches[2], batches[0])


def test_an_own_transform_without_resize_is_cached_too(market, tmp_path):
    transform = Compose([RandomHorizontalFlip(0.5)])
    plain, cached = (TestLoader(market.query, transform, 2, cache_dir=folder) for folder in ("", str(tmp_path)))
    assert_equal(list(cached), list(plain))


def test_built_from_the_config(market, tmp_path):
    cfg = config()
    cfg.DEVICE, cfg.DATALOADER.NUM_WORKERS = "cpu", 0
    expected = list(build_test_loader(cfg, market.gallery))
    cfg.DATALOADER.CACHE_DIR = str(tmp_path / "cache")
    assert_equal(list(build_test_loader(cfg, market.gallery)), expected)
    assert len(files(tmp_path / "cache")) == 1


def test_workers_that_are_not_forked_open_it_themselves(paths, tmp_path):
    images = DecodedImages(paths, RESIZES[1])
    copied = pickle.loads(pickle.dumps(ImageCache(images, tmp_path / "cache")))
    assert torch.equal(copied[4], images[4])


class SlowImages(DecodedImages):
    """Counts in a file how often it decoded."""

    def __getitem__(self, position):
        time.sleep(0.003)
        with (Path(self.paths[0]).parent / "decoded").open("ab") as file:
            file.write(b".")
        return super().__getitem__(position)


def test_killed_again_and_again_while_building(paths, tmp_path):
    images, folder = SlowImages(paths, RESIZES[1]), tmp_path / "cache"
    rng, left_overs = random.Random(0), 0
    for _ in range(12):
        builder = FORK.Process(target=ImageCache, args=(images, folder))
        builder.start()
        time.sleep(rng.uniform(0.005, 0.05))
        os.kill(builder.pid, signal.SIGKILL)
        builder.join()
        left_overs += any(name.endswith(".tmp") for name in files(folder)) if folder.exists() else 0
        whole = [name for name in files(folder) if not name.endswith(".tmp")] if folder.exists() else []
        if whole:
            _assert_whole(ImageCache(images, folder), images)
            shutil.rmtree(folder)
    assert left_overs > 2
    cache = ImageCache(images, folder)
    assert files(folder) == [cache.path.name], "what killed builders left is removed"
    _assert_whole(cache, images)


def _assert_whole(cache, images):
    assert all(torch.equal(cache[position], images[position]) for position in range(12))


def test_several_processes_build_it_once(paths, tmp_path):
    images, folder = SlowImages(paths, RESIZES[1]), tmp_path / "cache"
    builders = [FORK.Process(target=ImageCache, args=(images, folder)) for _ in range(4)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(timeout=30)
        assert builder.exitcode == 0
    assert (tmp_path / "decoded").stat().st_size == 12 and len(files(folder)) == 1


def test_too_little_room_is_refused_with_the_numbers(paths, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage._replace(free=3_000_000))
    resize = Resize((512, 256))
    with pytest.raises(OSError, match=r"need 5 MB in .*cache, where 3 MB are free. Make room, point DATALOADER.CACHE"):
        ImageCache(DecodedImages(paths, resize), tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_a_disk_that_fills_up_while_building(paths, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reid_core.data.image_cache._write", full)
    with pytest.raises(OSError, match=r"cannot be written to .*cache: No space left on device. Set DATALOADER.CACHE_D"):
        ImageCache(DecodedImages(paths, RESIZES[1]), tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_made(paths, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written to .*file/cache: Not a directory"):
        ImageCache(DecodedImages(paths, RESIZES[1]), tmp_path / "file" / "cache")


@pytest.mark.parametrize("resize", RESIZES)
def test_a_bad_image_is_named(paths, tmp_path, resize):
    (tmp_path / "7.jpg").write_bytes((tmp_path / "7.jpg").read_bytes()[:-60])
    with pytest.raises(OSError, match=r"7\.jpg \(\d+ bytes\) cannot be decoded"):
        ImageCache(DecodedImages(paths, resize), tmp_path / "cache")
    assert files(tmp_path / "cache") == []


def test_an_image_that_changes_while_building(paths, tmp_path):
    class Changing(DecodedImages):
        def __getitem__(self, position):
            os.utime(self.paths[2], ns=(0, position))
            return super().__getitem__(position)

    with pytest.raises(OSError, match="were changed while the cache in .* was built"):
        ImageCache(Changing(paths, RESIZES[1]), tmp_path / "cache")
    assert files(tmp_path / "cache") == []


@pytest.mark.parametrize("length", [0, 5, 1000])
def test_a_damaged_cache_is_refused(paths, tmp_path, length):
    images = DecodedImages(paths, RESIZES[1])
    cache = ImageCache(images, tmp_path / "cache")
    os.truncate(cache.path, length)
    with pytest.raises(OSError, match=r"is shorter than when it was opened; delete it"):
        cache[11]
    with pytest.raises(OSError, match=r"is not a whole cache of 12 images; delete it"):
        ImageCache(images, tmp_path / "cache")
