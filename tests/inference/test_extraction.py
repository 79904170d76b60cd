"""Features into a file: those of encode; and neither kill -9 nor a second process changes a byte."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

import reid_core as reid
from reid_core.data.feature_files import open_features
from reid_core.inference.extraction import ExtractionOptions, extract_features, model_fingerprint
from reid_core.inference.image_sources import open_images

PATTERN = r"(?P<pid>[0-9]+)_c(?P<camid>[0-9]+)"
OPTIONS = ExtractionOptions(batch_size=4, num_workers=1, shard_size=3)


@pytest.fixture(scope="module")
def model(checkpoint):
    return reid.load(checkpoint, device="cpu")


@pytest.fixture
def images(gallery, tmp_path):
    """A copy of the gallery's twelve images, to be changed."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in gallery.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def bad(folder):
    path = sorted(folder.iterdir())[4]
    path.write_bytes(b"no image")
    return path


@pytest.mark.parametrize("ending", [".parquet", ".npz", ".h5"])
def test_the_file_has_encodes_features(model, images, tmp_path, ending):
    if ending == ".h5":
        pytest.importorskip("h5py", reason="needs h5py: pip install reid-core[hdf5]")
    output = tmp_path / f"features{ending}"
    report = extract_features(model, open_images(images, PATTERN), output, OPTIONS)
    assert (report.images, report.width, report.skipped) == (12, 48, [])
    table = open_features(output)
    found = table.read(list(table.types))
    np.testing.assert_allclose(found["feature"], model.encode(images), atol=1e-6)
    assert found["path"] == [str(path) for path in sorted(images.iterdir())]
    assert found["pid"].tolist() == [100] * 3 + [101] * 3 + [102] * 3 + [103] * 3
    assert found["camid"].tolist() == [1, 2, 2] * 4
    assert table.metadata["model"] == model_fingerprint(model) and table.metadata["flip"] is False
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, "images"]


def test_half_and_flip(model, images, tmp_path):
    extract_features(model, open_images(images), tmp_path / "f.npz", ExtractionOptions(half=True, flip=True))
    table = open_features(tmp_path / "f.npz")
    assert table.dtype == np.float16
    flipped = model.encode(images, flip=True)
    np.testing.assert_allclose(table.read(["feature"])["feature"], flipped, atol=1e-3)
    assert np.abs(flipped - model.encode(images)).max() > 1e-2


def _start(target, *arguments):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.inference.test_extraction"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def _extract_until(checkpoint, images, output, last):
    """Extract, and be killed when the image number `last` is asked for."""
    torch.set_num_threads(1)
    source = open_images(images, PATTERN)
    plain = source.images

    def deadly(rows):
        for row, image in zip(rows, plain(rows), strict=True):
            if row == last:
                os.kill(os.getpid(), signal.SIGKILL)
            yield image

    source.images = deadly
    extract_features(reid.load(checkpoint, device="cpu"), source, output, OPTIONS)


def _extract_as(rank, folder, checkpoint, images, output):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    report = extract_features(reid.load(checkpoint, device="cpu"), open_images(images, PATTERN), output, OPTIONS)
    assert (report is None) == (rank == 1)
    dist.destroy_process_group()


def test_kill_9_and_two_processes_change_no_byte(checkpoint, model, images, tmp_path):
    whole = tmp_path / "whole.parquet"
    extract_features(model, open_images(images, PATTERN), whole, OPTIONS)
    expected = whole.read_bytes()

    output = tmp_path / "killed.parquet"
    process = _start(_extract_until, checkpoint, images, output, 4)
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / "killed.parquet.parts").glob("*.parquet"))) == 1
    assert not output.exists()
    workers = [_start(_extract_as, rank, tmp_path, checkpoint, images, output) for rank in range(2)]
    for process in workers:
        process.join(timeout=120)
        assert process.exitcode == 0
    assert output.read_bytes() == expected
    assert not (tmp_path / "killed.parquet.parts").exists()


def _interrupt(model, images, output, at, options=OPTIONS):
    """Run until image number `at` is asked for."""
    source = open_images(images, PATTERN)
    plain = source.images

    def stopping(rows):
        for row, image in zip(rows, plain(rows), strict=True):
            if row == at:
                raise KeyboardInterrupt
            yield image

    source.images = stopping
    with pytest.raises(KeyboardInterrupt):
        extract_features(model, source, output, options)


def test_changed_images_are_noticed(model, images, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(__import__("logging").getLogger("reid"), "propagate", True)
    output = tmp_path / "f.parquet"
    _interrupt(model, images, output, at=7)
    first, second = sorted(images.iterdir())[1:3]
    second.write_bytes(first.read_bytes())
    with caplog.at_level("INFO", "reid"):
        extract_features(model, open_images(images, PATTERN), output, OPTIONS)
    assert "The images of 1 of the 2 finished shards have changed" in caplog.text
    assert "Going on: 1 of 4 shards are there" in caplog.text
    features = open_features(output).read(["feature"])["feature"]
    np.testing.assert_allclose(features, model.encode(images), atol=1e-6)


def test_other_settings_are_refused_and_restart_forgets(model, images, tmp_path):
    output, other = tmp_path / "f.parquet", ExtractionOptions(batch_size=5, shard_size=3, flip=True)
    _interrupt(model, images, output, at=7)
    with pytest.raises(ValueError, match=r"other settings \(batch_size, flip\)\. .* --restart"):
        extract_features(model, open_images(images, PATTERN), output, other)
    extract_features(model, open_images(images, PATTERN), output, other, restart=True)
    assert open_features(output).metadata["flip"] is True
    with pytest.raises(FileExistsError, match="exists already"):
        extract_features(model, open_images(images, PATTERN), output, OPTIONS)
    extract_features(model, open_images(images, PATTERN), output, OPTIONS, overwrite=True)
    assert open_features(output).metadata["flip"] is False


def test_a_bad_image_stops_or_is_skipped_and_listed(model, images, tmp_path):
    output, broken = tmp_path / "f.npz", bad(images)
    with pytest.raises(OSError, match=f"{broken.name} .* cannot be decoded"):
        extract_features(model, open_images(images, PATTERN), output, OPTIONS)
    options = ExtractionOptions(batch_size=4, shard_size=3, on_bad_image="skip")
    report = extract_features(model, open_images(images, PATTERN), output, options, restart=True)
    assert report.images == 11 and broken.name in report.skipped[0]
    assert broken.name in (tmp_path / "f.npz.skipped.txt").read_text()
    found = open_features(output).read(["path", "feature"])
    good = [path for path in sorted(images.iterdir()) if path != broken]
    assert found["path"] == [str(path) for path in good]
    np.testing.assert_allclose(found["feature"], model.encode(good), atol=1e-6)


def test_a_shard_without_a_good_image_and_a_source_without_any(model, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(b"x")
    Image.new("RGB", (32, 64)).save(folder / "9.jpg")
    options = ExtractionOptions(shard_size=2, on_bad_image="skip")
    assert extract_features(model, open_images(folder), tmp_path / "f.npz", options).images == 1
    (folder / "9.jpg").unlink()
    with pytest.raises(ValueError, match=r"None of the 4 images can be encoded, the first because: .*0\.jpg"):
        extract_features(model, open_images(folder), tmp_path / "g.npz", options)


def test_a_list_that_names_a_folder(model, images, tmp_path):
    names = [*(f"images/{path.name}" for path in sorted(images.iterdir())[:2]), "images"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    with pytest.raises(ValueError, match="a path of the list names a folder"):
        extract_features(model, open_images(tmp_path / "list.txt"), tmp_path / "f.npz", OPTIONS)
    options = ExtractionOptions(shard_size=3, on_bad_image="skip")
    report = extract_features(model, open_images(tmp_path / "list.txt"), tmp_path / "f.npz", options, restart=True)
    assert report.images == 2 and len(report.skipped) == 1


def test_crops_of_a_video(model, tmp_path):
    pytest.importorskip("av", reason='needs PyAV: pip install "reid-core[video]"')
    from reid_core.inference.video_crops import VideoCrops
    from tests.inference.test_video_crops import write_video

    video, table = write_video(tmp_path / "film.mp4"), tmp_path / "boxes.jsonl"
    rows = [f'{{"frame": {n % 9}, "x": {n}, "y": 2, "w": 20, "h": 40, "track": {n % 3}}}' for n in range(11)]
    table.write_text("\n".join([*rows, '{"frame": 3, "x": 900, "y": 0, "w": 5, "h": 5, "track": 7}']))
    source, output = VideoCrops(video, table), tmp_path / "f.parquet"
    with pytest.raises(ValueError, match="frame 3 lies outside the picture"):
        extract_features(model, source, output, OPTIONS)
    assert not output.exists()
    skip = ExtractionOptions(batch_size=4, shard_size=3, on_bad_image="skip")
    report = extract_features(model, source, output, skip, restart=True)
    assert report.images == 11 and len(report.skipped) == 1
    found = open_features(output).read(["frame", "track", "timestamp", "feature"])
    order = sorted(range(11), key=lambda n: (n % 9, n))
    assert found["track"].tolist() == [n % 3 for n in order]
    np.testing.assert_allclose(found["timestamp"], found["frame"] / 10)
    good = np.flatnonzero(source.boxes[:, 0] < 900)
    np.testing.assert_allclose(found["feature"], model.encode(source.images(good)), atol=1e-6)


def test_the_fingerprint_is_that_of_weights_and_inputs(checkpoint, model, tmp_path):
    packed = reid.load(reid.save_model_folder(checkpoint, tmp_path / "model"), device="cpu")
    assert model_fingerprint(packed) == model_fingerprint(model)
    with torch.no_grad():
        next(packed.model.backbone.parameters()).view(-1)[0] += 1e-3
    assert model_fingerprint(packed) != model_fingerprint(model)


@pytest.mark.parametrize("wrong", [{"shard_size": 0}, {"on_bad_image": "ignore"}])
def test_options_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="positive|raise, skip"):
        ExtractionOptions(**wrong)
