import time
from collections import Counter
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.data import IdentityCameraSampler


def all_groups(targets, camids, num_instances, seed, epoch=0):
    """Every group of a pass, in the order of drawing: batches of one identity leave none out."""
    return list(IdentityCameraSampler(targets, camids, num_instances, num_instances, seed).batches(epoch, 0))


@cache
def fewest_pairs(counts, groups, size):
    """The fewest pairs of one camera within `groups` groups of `size`, over all ways to deal: by trying them all."""
    if groups == 0:
        return 0
    best = None
    for taken in product(*(range(count + 1) for count in counts)):
        if sum(taken) == size:
            rest = tuple(count - take for count, take in zip(counts, taken, strict=True))
            if sum(rest) >= (groups - 1) * size:
                cost = sum(take * (take - 1) // 2 for take in taken) + fewest_pairs(rest, groups - 1, size)
                best = cost if best is None else min(best, cost)
    return best


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3).filter(any), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_pairs_of_one_camera_are_as_few_as_they_can_be(counts, num_instances, seed, shuffler):
    images = [(7 * i, 10 * c - 1) for i, row in enumerate(counts) for c, n in enumerate(row) for _ in range(n)]
    shuffler.shuffle(images)
    targets, camids = zip(*images, strict=True)
    groups = all_groups(targets, camids, num_instances, seed)
    for identity, row in enumerate(counts):
        mine = [group for group in groups if targets[group[0]] == 7 * identity]
        cameras = [Counter(camids[position] for position in group) for group in mine]
        if sum(row) >= num_instances:
            assert len(mine) == sum(row) // num_instances
            assert len({position for group in mine for position in group}) == len(mine) * num_instances
            pairs = sum(n * (n - 1) // 2 for shares in cameras for n in shares.values())
            assert pairs == fewest_pairs(tuple(row), len(mine), num_instances)
        else:
            (group,), (shares,) = mine, cameras
            assert len(shares) == sum(map(bool, row)) and max(shares.values()) - min(shares.values()) <= 1
            for camera in shares:
                times = Counter(p for p in group if camids[p] == camera)
                of_camera = [times[p] for p in range(len(targets)) if images[p] == (7 * identity, camera)]
                assert max(of_camera) - min(of_camera) <= 1


def test_one_image_each_of_enough_cameras():
    groups = all_groups([0] * 8, range(8), 4, seed=1)
    assert sorted(groups[0] + groups[1]) == list(range(8))
    groups = all_groups([0] * 8, [0, 0, 1, 1, 2, 2, 3, 3], 4, seed=1)
    assert all({position // 2 for position in group} == {0, 1, 2, 3} for group in groups)


def within(count, draws, share):
    """Whether a count is within 4.5 standard deviations of its expectation."""
    return abs(count - draws * share) < 4.5 * (draws * share * (1 - share)) ** 0.5


def test_images_of_a_camera_take_turns_and_come_early_and_late_alike():
    targets, camids, draws = [5] * 10, [2] * 9 + [0], 2000  # three groups; one of camera 2's images sits out
    seen = Counter()
    for epoch in range(draws):
        groups = all_groups(targets, camids, 3, 0, epoch)
        seen.update((place, position) for place, group in enumerate(groups) for position in group)
    for place in range(3):
        assert within(seen[place, 9], draws, 1 / 3)
        assert all(within(seen[place, position], draws, 8 / 9 / 3) for position in range(9))
    assert sum(seen[place, 9] for place in range(3)) == draws


def test_which_camera_of_a_small_identity_is_seen_more_often_is_random():
    draws, more = 2000, 0
    for epoch in range(draws):
        (group,) = all_groups([0, 0], [0, 1], 3, 0, epoch)
        more += sum(group) == 2  # position 1 twice
    assert within(more, draws, 1 / 2)


def test_identities_are_drawn_uniformly():
    sampler = IdentityCameraSampler(np.repeat(np.arange(10), 20), np.arange(200) % 3, 6, 2, seed=0)
    first = Counter(p // 20 for epoch in range(1000) for p in set(next(sampler.batches(epoch, 0))[::2]))
    assert all(within(first[identity], 1000, 3 / 10) for identity in range(10))


def test_pass_of_many_images_is_quick():
    rng = np.random.default_rng(0)
    targets, camids = rng.integers(0, 4000, 100_000), rng.integers(0, 15, 100_000)
    sampler = IdentityCameraSampler(targets, camids, 64, 4, seed=1)
    started = time.process_time()
    batches = list(sampler.batches(0, 0))
    assert time.process_time() - started < 1
    assert len(batches) > 0.9 * sampler.max_batches


@pytest.mark.parametrize("camids", [torch.zeros(3, dtype=torch.int64), [[0, 1, 2, 3]], []])
def test_another_number_of_cameras_is_refused(camids):
    with pytest.raises(ValueError, match="one camera for each of the 4 images"):
        IdentityCameraSampler([0, 0, 1, 1], camids, 4, 2, seed=0)
