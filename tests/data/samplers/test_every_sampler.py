"""What holds for every registered sampler of the core, alone and behind the loader."""

import itertools
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.config import get_cfg
from reid_core.data import IdentitySampler, TrainingSet, TrainLoader
from reid_core.registry import SAMPLER_REGISTRY

SAMPLERS = sorted(name for name, cls in SAMPLER_REGISTRY if cls.__module__.startswith("reid_core."))
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def build(name, targets, camids=None, batch_size=4, num_instances=2, seed=0):
    cfg = get_cfg()
    cfg.DATALOADER.BATCH_SIZE, cfg.DATALOADER.NUM_INSTANCES, cfg.SEED = batch_size, num_instances, seed
    camids = torch.zeros(len(targets), dtype=torch.int64) if camids is None else torch.as_tensor(camids)
    return SAMPLER_REGISTRY.build(name, cfg, training_set=SimpleNamespace(targets=targets, camids=camids))


@st.composite
def problems(draw):
    """targets with -1 and gaps, camids, batch size and K for which every sampler can make a batch."""
    num_instances, per_batch = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    counts = draw(st.lists(st.integers(1, 9), min_size=per_batch, max_size=9))
    gap = draw(st.integers(1, 3))
    labels = [gap * label for label, count in enumerate(counts) for _ in range(count)]
    labels += [0] * max(0, num_instances * per_batch - len(labels))  # one that draws images needs a batch of them
    labels = draw(st.permutations(labels + [-1] * draw(st.integers(0, 4))))
    camids = draw(st.lists(st.integers(0, 3), min_size=len(labels), max_size=len(labels)))
    return labels, camids, num_instances * per_batch, num_instances


@every_sampler
@settings(max_examples=80, deadline=None)
@given(problems(), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2), st.integers(0, 20))
def test_invariants_of_a_pass(name, problem, seed, epoch, restart, taken):
    targets, camids, batch_size, num_instances = problem

    def new():
        return build(name, targets, camids, batch_size, num_instances, seed)

    sampler = new()
    batches = list(sampler.batches(epoch, restart))
    assert all(len(batch) == batch_size for batch in batches)
    assert 1 <= len(batches) == sampler.length(epoch, restart) <= sampler.max_batches
    assert all(type(position) is int for position in batches[0])
    drawn, images = Counter(itertools.chain(*batches)), Counter(targets)
    assert all(targets[position] >= 0 for position in drawn), "-1 is never drawn"
    is_pk = issubclass(SAMPLER_REGISTRY.get(name), IdentitySampler)
    for position, times in drawn.items():
        assert times == 1 or (is_pk and images[targets[position]] < num_instances)
    if is_pk:
        for batch in batches:
            groups = [batch[start : start + num_instances] for start in range(0, batch_size, num_instances)]
            labels = [{targets[position] for position in group} for group in groups]
            assert all(len(label) == 1 for label in labels), "K images of one identity together"
            assert len(set.union(*labels)) == batch_size // num_instances, "P different identities"
        dealt = {label: max(images[label], num_instances) // num_instances for label in images if label >= 0}
        used = Counter(targets[batch[start]] for batch in batches for start in range(0, batch_size, num_instances))
        assert all(used[label] <= dealt[label] for label in dealt)
        assert sum(used[label] < dealt[label] for label in dealt) < batch_size // num_instances
    again = new()
    list(again.batches(epoch + 1, restart))  # an earlier pass leaves no trace
    assert list(itertools.islice(again.batches(epoch, restart), taken)) == batches[:taken]
    assert list(again.batches(epoch, restart)) == batches


@every_sampler
def test_two_passes_at_a_time_do_not_disturb_each_other(name):
    sampler = build(name, np.repeat(np.arange(10), 6), np.arange(60) % 5)
    expected = list(sampler.batches(0, 0)), list(sampler.batches(1, 0))
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    pairs = list(itertools.zip_longest(sampler.batches(0, 0), sampler.batches(1, 0)))
    assert [[batch for batch in column if batch] for column in zip(*pairs, strict=True)] == list(expected)


@every_sampler
def test_passes_differ_by_seed_epoch_and_restart(name):
    targets = torch.arange(40).repeat(2)
    passes = [
        list(build(name, targets, seed=seed).batches(epoch, restart))
        for seed in (0, 1)
        for epoch in (0, 1)
        for restart in (0, 1)
    ]
    assert len({str(batches) for batches in passes}) == 8


@every_sampler
def test_only_the_present_targets_count(name):
    first, second = np.repeat(np.arange(6), 3), np.roll(np.repeat(np.arange(3), 6), 5) * 4
    second[:3] = -1
    camids = np.arange(18) % 4
    sampler = build(name, first, camids)
    sampler.set_targets(torch.from_numpy(second))
    assert list(sampler.batches(2, 1)) == list(build(name, second, camids).batches(2, 1))
    sampler.set_targets(first.tolist())
    assert list(sampler.batches(2, 1)) == list(build(name, first, camids).batches(2, 1))


@every_sampler
def test_labels_may_come_later(name):
    targets, camids = np.repeat(np.arange(6), 3), np.arange(18) % 4
    sampler = build(name, torch.full((18,), -1), camids)
    assert not sampler.has_labels
    for ask in (lambda: sampler.batches(0, 0), lambda: sampler.length(0, 0), lambda: sampler.max_batches):
        with pytest.raises(ValueError, match=r"All 18 targets are -1: .*Set them first \(set_targets\)"):
            ask()
    with pytest.raises(ValueError, match="none of them a label"):
        sampler.set_targets([-1] * 18)
    with pytest.raises(ValueError, match="has 18 images, got 3 targets"):
        sampler.set_targets([0, 1, 2])
    sampler.set_targets(targets)
    assert sampler.has_labels
    assert list(sampler.batches(0, 0)) == list(build(name, targets, camids).batches(0, 0))


@every_sampler
def test_the_batch_size_must_be_right_before_labels_come(name):
    with pytest.raises(ValueError, match="BATCH_SIZE must be positive"):
        build(name, [-1, -1], batch_size=0)
    with pytest.raises(ValueError, match="No image to sample: 0 targets"):
        build(name, [])


@every_sampler
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 0, 0, -1, -1, -1], r"needs 2 identities, the labels have 1\.|more than the 3 images"),
        ([0, 0, 1, 1, -2, 2], "got -2"),
        ([[0, 0, 1, 1, 2, 2]], "one dimension"),
        (torch.tensor([0.0, 0.5, 1.0, 1.0, 2.0, 2.0]), "whole numbers, got float32"),
    ],
)
def test_bad_targets_are_refused_and_the_old_ones_stay(name, targets, message):
    sampler = build(name, [0, 0, 1, 1, 2, 2])
    expected = list(sampler.batches(0, 0))
    with pytest.raises(ValueError, match=message):
        sampler.set_targets(targets)
    assert list(sampler.batches(0, 0)) == expected


@every_sampler
@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("iterations", [0, 7])
def test_processes_share_each_global_batch(name, world_size, iterations, market):
    """Behind the loader: as many batches in every process, disjoint shares, and the same where a run is resumed."""
    training_set = TrainingSet([market])

    def indices(rank, processes, first=0):
        sampler = build(name, training_set.targets, training_set.camids, batch_size=8, seed=3)
        loader = TrainLoader(
            training_set,
            sampler,
            lambda image: image[:, :1, :1],
            iterations_per_epoch=iterations,
            rank=rank,
            world_size=processes,
        )
        return [batch["indices"].tolist() for batch in loader.epoch(1, first)]

    whole = indices(0, 1)
    assert len(whole) == iterations or iterations == 0
    shares = [indices(rank, world_size) for rank in range(world_size)]
    assert [list(itertools.chain(*parts)) for parts in zip(*shares, strict=True)] == whole
    for batch in whole:
        assert len(set(batch)) == 8, "here every identity has K images, so that disjoint shares share no image"
    assert [indices(rank, world_size, 1) for rank in range(world_size)] == [share[1:] for share in shares]


@every_sampler
def test_a_pass_is_counted_once_with_the_same_targets(name, monkeypatch):
    first, second = np.repeat(np.arange(6), 3), np.repeat(np.arange(3), 6)
    sampler, camids = build(name, first, np.arange(18) % 4), np.arange(18) % 4
    drawn, draw = [], type(sampler).draw
    monkeypatch.setattr(type(sampler), "draw", lambda self, *place: drawn.append(place) or draw(self, *place))
    for place in [(0, 0)] * 5 + [(1, 0), (1, 1), (1, 1)]:
        assert sampler.length(*place) == len(list(build(name, first, camids).draw(*place)))
    drawn.clear()
    assert sampler.length(1, 1) and not drawn
    sampler.set_targets(second)
    assert sampler.length(1, 1) == len(list(build(name, second, camids).draw(1, 1)))
