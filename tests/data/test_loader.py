import logging
import multiprocessing
import os
import random
import signal
import threading
import time

import numpy as np
import pytest
import torch

from reid_core.config import get_cfg
from reid_core.data import (
    IdentitySampler,
    RandomSampler,
    TestLoader,
    TrainingSet,
    TrainLoader,
    build_test_loader,
    build_train_loader,
    build_transforms,
)
from reid_core.data.datasets import Market1501
from reid_core.structures import ReIDImage
from tests.data.conftest import write_image, write_market


def config(**inputs):
    cfg = get_cfg()
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [32, 16]
    cfg.INPUT.PADDING = 3
    for name, value in inputs.items():
        cfg.INPUT[name] = value
    return cfg


@pytest.fixture
def training_set(market):
    return TrainingSet([market])


def make(training_set, sampler=None, transform=None, **options):
    sampler = sampler or IdentitySampler(training_set.targets, 8, 2, seed=1)
    return TrainLoader(training_set, sampler, transform or build_transforms(config(), train=True), seed=1, **options)


def collect(loader, *arguments):
    batches = list(loader.epoch(*arguments))
    loader.close()
    return batches


def assert_equal(first, second):
    assert len(first) == len(second) > 0
    for one, two in zip(first, second, strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) and one[key].dtype == two[key].dtype for key in one)


def wait_for_no_children():
    for _ in range(100):
        if not multiprocessing.active_children():
            return
        time.sleep(0.05)
    raise AssertionError("worker processes live on")


def test_batches_have_the_documented_keys(training_set):
    for batch in make(training_set).epoch(0):
        assert set(batch) == {"images", "targets", "camids", "viewids", "indices"}
        assert batch["images"].shape == (8, 3, 32, 16) and batch["images"].dtype == torch.uint8
        assert batch["images"].is_contiguous()
        for key in ("targets", "camids", "viewids"):
            assert torch.equal(batch[key], getattr(training_set, key)[batch["indices"]])
            assert batch[key].dtype == torch.int64


def test_an_epoch_is_one_pass_of_the_sampler(training_set):
    loader = make(training_set)
    for epoch in range(3):
        expected = list(loader.sampler.batches(epoch, 0))
        assert [batch["indices"].tolist() for batch in loader.epoch(epoch)] == expected
        assert loader.length(epoch) == len(expected) <= loader.iterations_per_epoch


def test_the_sampler_restarts_to_fill_an_epoch(training_set):
    loader = make(training_set, iterations_per_epoch=7)
    indices = [batch["indices"].tolist() for batch in loader.epoch(2)]
    passes = [batch for restart in range(7) for batch in loader.sampler.batches(2, restart)]
    assert indices == passes[:7] and len(list(loader.sampler.batches(2, 0))) < 7
    assert loader.length(2) == loader.iterations_per_epoch == 7


def test_a_pass_longer_than_the_epoch_is_cut(training_set):
    loader = make(training_set, RandomSampler(training_set.targets, 4, seed=0), iterations_per_epoch=2)
    assert len(list(loader.epoch(0))) == 2


@pytest.mark.parametrize("fill", ["mean", "noise"])
def test_content_does_not_depend_on_the_number_of_workers(training_set, fill):
    transform = build_transforms(config(ERASING_FILL=fill), train=True)
    options = {"transform": transform, "iterations_per_epoch": 6}
    expected = collect(make(training_set, num_workers=0, **options), 3)
    for workers, prefetch in ((1, 1), (2, 3)):
        loader = make(training_set, num_workers=workers, prefetch_factor=prefetch, **options)
        assert_equal(collect(loader, 3), expected)


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_shares_of_processes_make_up_the_global_batch(training_set, world_size, num_workers):
    expected = collect(make(training_set, iterations_per_epoch=4), 1)
    shares = [
        collect(make(training_set, iterations_per_epoch=4, rank=r, world_size=world_size, num_workers=num_workers), 1)
        for r in range(world_size)
    ]
    steps = zip(*shares, strict=True)
    joined = [{key: torch.cat([part[key] for part in parts]) for key in parts[0]} for parts in steps]
    assert_equal(joined, expected)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("iterations", [0, 6])
def test_resuming_inside_an_epoch_gives_the_same_batches(training_set, num_workers, iterations):
    loader = make(training_set, iterations_per_epoch=iterations, num_workers=num_workers)
    full = list(loader.epoch(4))
    for first in range(1, len(full)):
        assert_equal(list(loader.epoch(4, first)), full[first:])
    assert list(loader.epoch(4, len(full))) == []
    with pytest.raises(ValueError, match=f"has {len(full)} iterations, cannot go on at {len(full) + 1}"):
        next(loader.epoch(4, len(full) + 1))
    loader.close()


def test_epochs_and_seeds_differ(training_set):
    sampler = RandomSampler(training_set.targets, 8, seed=0)
    sampler.batches = lambda epoch, restart: iter([[0] * 8])  # the same image all over: only augmentation differs
    batches = [next(make(training_set, sampler).epoch(epoch))["images"] for epoch in (0, 1)]
    other = TrainLoader(training_set, sampler, build_transforms(config(), train=True), seed=2)
    batches.append(next(other.epoch(0))["images"])
    images = torch.cat(batches)
    assert len({image.numpy().tobytes() for image in images}) > 0.9 * len(images)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_training_process_generators_are_left_alone(training_set, num_workers):
    def draws():
        return torch.rand(3).tolist(), random.random(), np.random.rand()

    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    expected = draws()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    collect(make(training_set, num_workers=num_workers), 0)
    assert draws() == expected


def test_the_training_process_generators_do_not_matter(training_set):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)
        results.append(collect(make(training_set, num_workers=seed), 0))
    assert_equal(*results)


def test_new_targets_reach_sampler_and_batches_without_new_workers(training_set):
    loader = make(training_set, num_workers=1)
    list(loader.epoch(0))
    workers = {process.pid for process in multiprocessing.active_children()}
    pseudo = torch.arange(len(training_set)) % 5
    pseudo[::4] = -1
    loader.set_targets(pseudo)
    for batch in loader.epoch(1):
        assert torch.equal(batch["targets"], pseudo[batch["indices"]]) and (batch["targets"] >= 0).all()
        assert batch["targets"][::2].unique().numel() == 4
    assert {process.pid for process in multiprocessing.active_children()} == workers
    pseudo.zero_()
    assert loader.targets.max() == 4, "the caller's tensor is copied"
    assert training_set.targets.max() == 5, "the training set's own labels stay"
    loader.close()


def test_another_number_of_targets_is_refused(training_set):
    with pytest.raises(ValueError, match="has 30 images, got 3 targets"):
        make(training_set).set_targets(torch.arange(3))


def test_a_transform_may_give_several_views(training_set):
    plain = build_transforms(config(), train=True)
    loader = make(training_set, transform=lambda image: torch.stack([plain(image), plain(image), plain(image)]))
    batch = next(loader.epoch(0))
    assert batch["views"].shape == (8, 3, 3, 32, 16) and "images" not in batch


def test_extra_views_are_determined_as_plain_images_are(training_set):
    plain = collect(make(training_set, iterations_per_epoch=4), 1)
    options = {"transform": build_transforms(config(EXTRA_VIEWS=2), train=True), "iterations_per_epoch": 4}
    expected = collect(make(training_set, **options), 1)
    for batch, images in zip(expected, plain, strict=True):
        assert batch["views"].shape == (8, 3, 3, 32, 16) and "images" not in batch
        assert torch.equal(batch["views"][:, 0], images["images"])
    assert_equal(collect(make(training_set, num_workers=2, **options), 1), expected)
    assert_equal(collect(make(training_set, **options), 1, 2), expected[2:])
    halves = [collect(make(training_set, rank=rank, world_size=2, **options), 1) for rank in range(2)]
    for first, second, whole in zip(*halves, expected, strict=True):
        assert torch.equal(torch.cat([first["views"], second["views"]]), whole["views"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_file_is_the_error_that_comes_out(tmp_path, num_workers):
    folder = write_market(tmp_path, identities=4, images=2)
    broken = folder / "bounding_box_train" / "0005_c2s1_000001_00.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    training_set = TrainingSet([Market1501(str(tmp_path))])
    with pytest.raises(OSError, match=r"^\S+0005_c2\S+ \(200 bytes\) cannot be decoded: [^\n]*$") as caught:
        collect(make(training_set, num_workers=num_workers), 0)
    assert type(caught.value) is OSError and caught.value.__cause__ is None
    wait_for_no_children()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_transform_keeps_its_type(training_set, num_workers):
    def fail(image):
        raise ZeroDivisionError("in my transform")

    loader = make(training_set, transform=fail, num_workers=num_workers)
    with pytest.raises(ZeroDivisionError, match=r"^in my transform$"):
        collect(loader, 0)


def test_after_an_error_the_loader_can_be_used_again(tmp_path):
    folder = write_market(tmp_path, identities=4, images=2)
    broken = folder / "bounding_box_train" / "0005_c2s1_000001_00.jpg"
    content = broken.read_bytes()
    broken.write_bytes(b"")
    loader = make(TrainingSet([Market1501(str(tmp_path))]), num_workers=2, iterations_per_epoch=9)
    with pytest.raises(OSError, match="it is empty"):
        list(loader.epoch(0))
    broken.write_bytes(content)
    assert len(collect(loader, 0)) == 9


def kill_workers():
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGKILL)


def test_a_worker_that_is_killed_gives_a_clear_error_at_the_next_batch(training_set):
    loader = make(training_set, num_workers=2, prefetch_factor=1, iterations_per_epoch=10_000)
    batches = loader.epoch(0)
    next(batches)
    kill_workers()
    time.sleep(0.3)  # the training step: nothing must be raised in the middle of it
    with pytest.raises(RuntimeError, match=r"A process that decodes images died .*DATALOADER.NUM_WORKERS"):
        next(batches)
    assert len(list(loader.epoch(0, 9_998))) == 2, "new workers are started"
    loader.close()


def test_a_worker_that_is_killed_while_it_is_waited_for(training_set):
    loader = make(training_set, transform=lambda image: time.sleep(30), num_workers=2)
    killer = threading.Timer(0.5, kill_workers)
    killer.start()
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"A process that decodes images died .*DATALOADER.NUM_WORKERS"):
        next(loader.epoch(0))
    assert time.monotonic() - started < 4
    killer.join()
    wait_for_no_children()


def test_a_worker_that_hangs_gives_a_clear_error(training_set, monkeypatch):
    monkeypatch.setattr("reid_core.data.worker_pool.STALL_SECONDS", 1)
    loader = make(training_set, transform=lambda image: time.sleep(0.3), num_workers=1)
    with pytest.raises(RuntimeError, match=r"gave no batch for 1 seconds"):
        next(loader.epoch(0))


def test_ctrl_c_is_left_to_the_training_process(training_set):
    loader = make(training_set, num_workers=1, iterations_per_epoch=4)
    batches = loader.epoch(0)
    next(batches)
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGINT)
    assert len(list(batches)) == 3
    loader.close()


def test_workers_persist_until_close(training_set):
    wait_for_no_children()
    loader = make(training_set, num_workers=2)
    list(loader.epoch(0))
    first = {process.pid for process in multiprocessing.active_children()}
    unfinished = loader.epoch(1)
    next(unfinished)
    assert {process.pid for process in multiprocessing.active_children()} == first and len(first) == 2
    loader.close()
    wait_for_no_children()
    with pytest.raises(RuntimeError, match="was ended by a later one"):
        next(unfinished)
    assert list(loader.epoch(0))
    loader.close()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unfinished_epoch_does_not_reach_into_the_next(training_set, num_workers):
    loader = make(training_set, num_workers=num_workers, iterations_per_epoch=6)
    expected = list(loader.epoch(1))
    unfinished = loader.epoch(0)
    next(unfinished)
    assert_equal(list(loader.epoch(1)), expected)
    with pytest.raises(RuntimeError, match="ended by a later one"):
        next(unfinished)
    loader.close()


def test_workers_forked_among_busy_threads(training_set):
    """Threads of OpenMP and others exist and compute when the workers fork; none must hang."""
    torch.set_num_threads(2)
    torch.rand(400, 400) @ torch.rand(400, 400)
    (torch.rand(1_000_000) + 1).sum()
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            np.random.default_rng(0).random(1000).sort()
            (torch.ones(100_000).exp().sum(), logging.getLogger("reid").debug("busy"))

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        batches = collect(make(training_set, num_workers=2, iterations_per_epoch=5), 0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert_equal(batches, collect(make(training_set, iterations_per_epoch=5), 0))


def test_workers_use_one_thread(training_set):
    torch.set_num_threads(2)
    loader = make(training_set, transform=lambda image: torch.full((3, 1, 1), torch.get_num_threads()), num_workers=1)
    assert collect(loader, 0)[0]["images"].unique().tolist() == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world_size": 3}, "8 cannot be shared equally by 3 processes"),
        ({"world_size": 2, "rank": 2}, r"rank must be in \[0, 2\)"),
        ({"iterations_per_epoch": -1}, "ITERATIONS_PER_EPOCH"),
        ({"num_workers": -1}, "DATALOADER.NUM_WORKERS must not be negative, got -1"),
        ({"num_workers": 1, "prefetch_factor": 0}, "DATALOADER.PREFETCH_FACTOR must be positive, got 0"),
    ],
)
def test_train_loader_refuses(training_set, options, message):
    with pytest.raises(ValueError, match=message):
        make(training_set, **options)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_test_loader_keeps_the_order_and_can_be_iterated_again(market, num_workers):
    transform = build_transforms(config(), train=False)
    loader = TestLoader(market.train, transform, batch_size=7, num_workers=num_workers)
    for _ in range(2):
        batches = list(loader)
        assert [len(batch["indices"]) for batch in batches] == [7, 7, 7, 7, 2] and len(loader) == 5
        assert torch.cat([batch["indices"] for batch in batches]).tolist() == list(range(30))
        for key, column in (("targets", "pids"), ("camids", "camids"), ("viewids", "viewids")):
            joined = torch.cat([batch[key] for batch in batches])
            assert joined.tolist() == getattr(market.train, column).tolist() and joined.dtype == torch.int64
        if num_workers:
            wait_for_no_children()
    images = torch.cat([batch["images"] for batch in batches])
    assert torch.equal(images, torch.cat([b["images"] for b in TestLoader(market.train, transform, batch_size=30)]))


@pytest.mark.parametrize("records", [0, 1, 5, 30])
@pytest.mark.parametrize("world_size", [1, 3, 4])
def test_shards_are_contiguous_and_cover_everything(market, records, world_size):
    shards = [
        TestLoader(market.train[:records], lambda image: image[:, :4, :4], 4, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    parts = [[i for batch in shard for i in batch["indices"].tolist()] for shard in shards]
    assert [i for part in parts for i in part] == list(range(records))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [len(list(shard)) for shard in shards] == [len(shard) for shard in shards]


def test_test_loader_takes_plain_records(tmp_path):
    write_image(tmp_path / "a.png", 0)
    (batch,) = TestLoader([ReIDImage(str(tmp_path / "a.png"), -1, 4, 2)], lambda image: image, batch_size=3)
    assert [batch[key].tolist() for key in ("targets", "camids", "viewids", "indices")] == [[-1], [4], [2], [0]]


def test_workers_of_a_test_loader_end_when_it_is_left_early(market):
    wait_for_no_children()
    for _ in TestLoader(market.train, lambda image: image, 2, num_workers=2):
        assert multiprocessing.active_children()
        break
    wait_for_no_children()
    assert not multiprocessing.active_children()


def test_persistent_workers_on_request(market):
    loader = TestLoader(market.query, lambda image: image, 2, num_workers=1, persistent_workers=True)
    pids = []
    for _ in range(2):
        list(loader)
        pids.append({process.pid for process in multiprocessing.active_children()})
    assert pids[0] == pids[1] and len(pids[0]) == 1
    loader.close()
    wait_for_no_children()


@pytest.mark.parametrize(
    ("options", "message"), [({"batch_size": 0}, "BATCH_SIZE"), ({"batch_size": 1, "rank": 1}, "rank must be in")]
)
def test_test_loader_refuses(market, options, message):
    with pytest.raises(ValueError, match=message):
        TestLoader(market.query, lambda image: image, **options)


def test_built_from_the_config(market, training_set):
    cfg = config()
    cfg.DEVICE = "cpu"
    cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.BATCH_SIZE, cfg.DATALOADER.NUM_INSTANCES = 0, 8, 2
    cfg.SOLVER.ITERATIONS_PER_EPOCH, cfg.TEST.BATCH_SIZE, cfg.SEED = 3, 2, 1
    expected = collect(make(training_set, iterations_per_epoch=3, scaled_decoding=True), 0)
    assert_equal(collect(build_train_loader(cfg, training_set), 0), expected)
    share = next(build_train_loader(cfg, training_set, rank=1, world_size=2).epoch(0))
    assert torch.equal(share["indices"], expected[0]["indices"][4:])
    loader = build_test_loader(cfg, market.gallery, rank=1, world_size=2)
    assert [batch["indices"].tolist() for batch in loader] == [[1, 2]]
    assert next(iter(loader))["images"].shape == (2, 3, 32, 16)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs CUDA")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_pinned_batches_are_the_same_batches(training_set, num_workers):
    pinned = collect(make(training_set, pin_memory=True, num_workers=num_workers), 0)
    assert all(value.is_pinned() for value in pinned[0].values())
    assert_equal(pinned, collect(make(training_set), 0))


@pytest.mark.parametrize("iterations", [0, 7])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_nothing_to_train_on_until_there_are_targets(training_set, num_workers, iterations):
    loader = make(training_set, num_workers=num_workers, iterations_per_epoch=iterations)
    expected = list(loader.epoch(1))
    loader.set_targets(None)
    assert loader.length(1) == 0 and list(loader.epoch(1)) == [] and (loader.targets == -1).all()
    with pytest.raises(ValueError, match="Epoch 1 has 0 iterations, cannot go on at 2"):
        next(loader.epoch(1, 2))
    loader.set_targets(training_set.targets)
    assert loader.length(1) == len(expected)
    assert_equal(list(loader.epoch(1)), expected)
    loader.close()


def test_batches_can_be_sampled_by_other_labels_than_theirs(training_set):
    loader = make(training_set, iterations_per_epoch=5)
    targets, sample_by = training_set.targets // 2, training_set.targets.clone()
    sample_by[training_set.targets == 0] = -1
    loader.set_targets(targets, sample_by)
    sampler = IdentitySampler(sample_by, 8, 2, seed=1)
    expected = [*sampler.batches(2, 0), *sampler.batches(2, 1), *sampler.batches(2, 2)][:5]
    batches = list(loader.epoch(2))
    assert [batch["indices"].tolist() for batch in batches] == expected
    assert all(torch.equal(batch["targets"], targets[batch["indices"]]) for batch in batches)


def test_targets_that_make_no_batch_change_nothing(training_set):
    loader = make(training_set)
    with pytest.raises(ValueError, match="needs 4 identities, the labels have 2"):
        loader.set_targets(training_set.targets % 2)
    with pytest.raises(ValueError, match="needs 4 identities, the labels have 1"):
        loader.set_targets(training_set.targets, sample_by=torch.zeros(len(training_set), dtype=torch.int64))
    assert torch.equal(loader.targets, training_set.targets)
    assert_equal(list(loader.epoch(0)), list(make(training_set).epoch(0)))
