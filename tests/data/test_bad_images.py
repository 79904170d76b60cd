import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from reid_core.config import ConfigError
from reid_core.data import TrainingSet, build_test_loader, build_train_loader
from reid_core.data.bad_images import (
    apply_bad_image_policy,
    count_skipped,
    find_bad_images,
    list_skipped,
    skipped_images,
)
from reid_core.data.datasets import Market1501
from tests.data.conftest import write_market
from tests.data.test_loader import config

BAD = {"0002_c1s1_000000_00.jpg": b"", "0005_c3s1_000002_00.jpg": b"<html>", "0008_c5s1_000004_00.jpg": None}


@pytest.fixture
def damaged(tmp_path):
    """A Market-1501 with an empty, a wrong and a truncated training image and a truncated gallery image."""
    folder = write_market(tmp_path)
    files = {folder / "bounding_box_train" / name: content for name, content in BAD.items()}
    files[folder / "bounding_box_test" / "0701_c2s1_000001_00.jpg"] = None
    for path, content in files.items():
        path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    return Market1501(str(tmp_path))


def names(table):
    return [Path(record.path).name for record in table]


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_bad_images_are_found_with_their_reasons(damaged, num_threads):
    found = find_bad_images(damaged.train.paths, num_threads)
    assert [Path(damaged.train[position].path).name for position in found] == sorted(BAD)
    for text, reason in zip(found.values(), ("it is empty", "known image format", "truncated"), strict=True):
        assert reason in text


def test_skipping_leaves_them_out_and_lists_them(damaged, log):
    whole = names(damaged.train)
    (remaining,) = apply_bad_image_policy({"Market1501": damaged}, "skip").values()
    assert names(remaining.train) == [name for name in whole if name not in BAD]
    assert [record.pid for record in remaining.gallery] == [700, 702] and len(remaining.query) == 3
    assert names(damaged.train) == whole, "the caller's dataset stays as it was"
    assert {split: len(reasons) for split, reasons in skipped_images(remaining).items()} == {
        "train": 3, "query": 0, "gallery": 1
    }  # fmt: skip
    assert count_skipped(remaining).startswith("3 of its train, 1 of its gallery images were skipped")
    (listed,) = [record for record in log.records if record.levelname == "WARNING"]
    assert all(f"train: {damaged.folder}/bounding_box_train/{name} (" in listed.getMessage() for name in BAD)
    assert "gallery: " in listed.getMessage() and listed.getMessage().count("\n") == 4
    log.clear()
    list_skipped(remaining)
    assert [record.getMessage() for record in log.records] == [listed.getMessage()]


def test_raising_is_the_default_and_looks_at_nothing(damaged, log, monkeypatch):
    monkeypatch.setattr("reid_core.data.bad_images.reason_of_refusal", None)
    assert config().INPUT.ON_BAD_IMAGE == "raise"
    (same,) = apply_bad_image_policy({"Market1501": damaged}, "raise").values()
    assert same is damaged and not skipped_images(same) and not count_skipped(same)
    list_skipped(same)
    assert not log.records


def test_a_whole_dataset_is_not_a_warning(market, log):
    (remaining,) = apply_bad_image_policy({"Market1501": market}, "skip").values()
    assert names(remaining.train) == names(market.train) and not count_skipped(remaining)
    assert not [record for record in log.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loaders_of_what_remains_meet_no_bad_image(damaged, num_workers):
    cfg = config()
    cfg.DEVICE, cfg.DATALOADER.NUM_WORKERS = "cpu", num_workers
    cfg.DATALOADER.BATCH_SIZE, cfg.DATALOADER.NUM_INSTANCES = 8, 2
    with pytest.raises(OSError, match="cannot be decoded"):
        for batch in build_test_loader(cfg, damaged.train):
            assert len(batch["indices"])
    (remaining,) = apply_bad_image_policy({"Market1501": damaged}, "skip", num_workers).values()
    training_set = TrainingSet([remaining])
    loader = build_train_loader(cfg, training_set)
    batches = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
    loader.close()
    assert batches and all(batch["targets"].unique(return_counts=True)[1].tolist() == [2] * 4 for batch in batches)
    seen = {names(training_set.images)[i] for batch in batches for i in batch["indices"]}
    assert len(seen) > 20 and not seen & set(BAD)
    encoded = torch.cat([batch["targets"] for batch in build_test_loader(cfg, remaining.gallery)])
    assert encoded.tolist() == [700, 702]


def _in_group(rank, folder, root):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    (remaining,) = apply_bad_image_policy({"Market1501": Market1501(root)}, "skip").values()
    (folder / f"{rank}.txt").write_text("\n".join([*names(remaining.train), *skipped_images(remaining)["train"]]))
    dist.destroy_process_group()


def test_all_processes_leave_out_the_same(damaged, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.data.test_bad_images"])
    workers = [context.Process(target=_in_group, args=(rank, tmp_path, str(tmp_path))) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    (remaining,) = apply_bad_image_policy({"Market1501": damaged}, "skip").values()
    expected = "\n".join([*names(remaining.train), *skipped_images(remaining)["train"]])
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == [expected] * 2


def test_refusals(damaged):
    with pytest.raises(ConfigError, match="must be 'raise' or 'skip', got 'ignore'"):
        apply_bad_image_policy({"Market1501": damaged}, "ignore")
    for record in damaged.query:
        with open(record.path, "wb"):
            pass
    with pytest.raises(ValueError, match="none of the 3 images of the query split can be decoded.*it is empty"):
        apply_bad_image_policy({"Market1501": damaged}, "skip")
