import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.config import get_cfg
from reid_core.data.samplers import IdentitySampler, RandomSampler
from reid_core.registry import SAMPLER_REGISTRY


def check_identity_pass(targets, batches, batch_size, num_instances):
    """The published sampler's invariants, by plain counting."""
    counts, drawn = Counter(label for label in targets if label >= 0), Counter()
    for batch in batches:
        assert len(batch) == batch_size
        for start in range(0, batch_size, num_instances):
            group = batch[start : start + num_instances]
            (label,) = {targets[position] for position in group}
            drawn[label] += num_instances
            if counts[label] >= num_instances:
                assert len(set(group)) == num_instances
        labels = [targets[position] for position in batch[::num_instances]]
        assert len(set(labels)) == batch_size // num_instances and min(labels) >= 0
    used = Counter(position for batch in batches for position in batch)
    assert all(used[p] <= 1 for p in used if counts[targets[p]] >= num_instances)
    dealt = {label: max(count, num_instances) // num_instances * num_instances for label, count in counts.items()}
    assert all(drawn[label] <= dealt[label] for label in dealt)
    left = sum(drawn[label] < dealt[label] for label in dealt)
    assert left < batch_size // num_instances, "the pass ended though another batch could be made"


@st.composite
def labelled_sets(draw):
    num_instances = draw(st.integers(1, 4))
    identities_per_batch = draw(st.integers(1, 4))
    counts = draw(st.lists(st.integers(1, 9), min_size=identities_per_batch, max_size=9))
    unlabelled = draw(st.integers(0, 4))
    labels = [label for label, count in enumerate(counts) for _ in range(count)] + [-1] * unlabelled
    order = draw(st.permutations(range(len(labels))))
    gap = draw(st.integers(1, 3))  # labels need not be 0..C-1
    return [labels[i] * gap if labels[i] >= 0 else -1 for i in order], identities_per_batch, num_instances


@settings(max_examples=150, deadline=None)
@given(labelled_sets(), st.integers(0, 5), st.integers(0, 3), st.integers(0, 2))
def test_identity_sampler_keeps_the_published_invariants(problem, seed, epoch, restart):
    targets, identities, num_instances = problem
    sampler = IdentitySampler(torch.tensor(targets), identities * num_instances, num_instances, seed)
    batches = list(sampler.batches(epoch, restart))
    check_identity_pass(targets, batches, identities * num_instances, num_instances)
    assert 1 <= len(batches) <= sampler.max_batches
    assert sampler.length(epoch, restart) == len(batches)
    again = IdentitySampler(torch.tensor(targets), identities * num_instances, num_instances, seed)
    list(again.batches(epoch + 1, restart))  # an earlier pass leaves no trace
    assert list(again.batches(epoch, restart)) == batches


def test_identities_are_drawn_uniformly():
    sampler = IdentitySampler(np.repeat(np.arange(10), 20), 6, 2, seed=0)
    first = Counter(position // 20 for epoch in range(2000) for position in set(next(sampler.batches(epoch, 0))[::2]))
    expected, spread = 2000 * 3 / 10, (2000 * 0.3 * 0.7) ** 0.5
    assert all(abs(first[identity] - expected) < 4.5 * spread for identity in range(10))


def test_small_identities_are_drawn_with_replacement_from_all_their_images():
    sampler = IdentitySampler([0, 0, 0, 1, 1, 1, 1], 8, 4, seed=3)
    groups = [batch[start : start + 4] for e in range(50) for batch in sampler.batches(e, 0) for start in (0, 4)]
    small = [group for group in groups if group[0] < 3]
    assert all(set(group) <= {0, 1, 2} for group in small)
    assert {position for group in small for position in group} == {0, 1, 2}
    assert any(len(set(group)) < 3 for group in small)


def test_surplus_images_change_from_pass_to_pass():
    sampler = IdentitySampler([0] * 5 + [1] * 5, 8, 4, seed=0)
    used = set()
    for epoch in range(20):
        (batch,) = sampler.batches(epoch, 0)
        assert len(set(batch)) == 8
        used |= set(batch)
    assert used == set(range(10))


def test_pass_of_many_images_is_quick():
    targets = np.random.default_rng(0).integers(0, 4000, 100_000)
    sampler = IdentitySampler(targets, 64, 4, seed=1)
    started = time.process_time()
    batches = list(sampler.batches(0, 0))
    assert time.process_time() - started < 1
    check_identity_pass(targets.tolist(), batches, 64, 4)


def test_random_sampler_uses_every_image_once_and_drops_the_rest():
    sampler = RandomSampler([0, -1, 1, 2, 3, -1, 4, 5], 4, seed=0)
    seen = Counter()
    for epoch in range(30):
        (batch,) = sampler.batches(epoch, 0)
        assert len(set(batch)) == 4
        seen.update(batch)
    assert set(seen) == {0, 2, 3, 4, 6, 7}
    assert sampler.length(0, 0) == sampler.max_batches == 1


def test_targets_can_be_replaced():
    sampler = IdentitySampler([0, 0, 1, 1, 2, 2], 4, 2, seed=0)
    sampler.set_targets(torch.tensor([-1, 7, 7, 3, 3, -1]))
    (batch,) = sampler.batches(0, 0)
    assert sorted(batch) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((range(8), 6, 4), "BATCH_SIZE 6 is not a multiple of DATALOADER.NUM_INSTANCES 4"),
        ((range(8), 6, 0), "not a multiple"),
        (([0, 0, 1, 1, 2], 8, 2), "needs 4 identities, the labels have 3"),
        (([], 4, 2), "No image to sample: 0 targets"),
        (([0.5, 1.0], 4, 2), "whole numbers, got float64"),
        (([0, 1, -2], 2, 1), "got -2"),
        (([[0, 1]], 2, 1), "one dimension"),
        (([0, 1], 0, 1), "BATCH_SIZE must be positive"),
    ],
)
def test_identity_sampler_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        IdentitySampler(*arguments, seed=0)


def test_negative_seed_is_refused():
    with pytest.raises(ValueError, match="SEED"):
        RandomSampler([0, 1], 1, seed=-1)


def test_random_sampler_refuses_a_batch_larger_than_the_set():
    with pytest.raises(ValueError, match="more than the 2 images"):
        RandomSampler([0, 1, -1], 3, seed=0)


def test_bad_targets_leave_the_old_ones_in_place():
    sampler = IdentitySampler([0, 0, 1, 1], 4, 2, seed=0)
    for bad in ([0, 0, 0, 0], [0, 1], [-1] * 4):
        with pytest.raises(ValueError):
            sampler.set_targets(bad)
    assert sampler.targets.tolist() == [0, 0, 1, 1]


def test_the_callers_targets_are_copied():
    targets = torch.tensor([0, 0, 1, 1])
    sampler = IdentitySampler(targets, 4, 2, seed=0)
    targets.zero_()
    assert sampler.targets.tolist() == [0, 0, 1, 1]


def test_built_from_the_config():
    cfg = get_cfg()
    cfg.DATALOADER.BATCH_SIZE, cfg.DATALOADER.NUM_INSTANCES, cfg.SEED = 4, 2, 9
    training_set = SimpleNamespace(targets=torch.tensor([0, 0, 1, 1]))
    for name, cls in (("IdentitySampler", IdentitySampler), ("RandomSampler", RandomSampler)):
        sampler = SAMPLER_REGISTRY.build(name, cfg, training_set=training_set)
        assert isinstance(sampler, cls) and sampler.batch_size == 4 and sampler.seed == 9
