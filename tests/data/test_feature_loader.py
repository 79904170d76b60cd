"""Batches of cached features: every image once a pass, in an order that a resumed run finds again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reid_core.data.feature_loader import FeatureLoader


def _loader(count, batch_size, iterations=0, seed=0):
    loader = FeatureLoader(torch.arange(count) % 3, batch_size, iterations, seed)
    loader.set_features(torch.arange(count, dtype=torch.float32)[:, None])
    return loader


@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 3))
def test_a_pass_visits_every_image_once_and_has_no_empty_batch(count, batch_size, epoch):
    batches = list(_loader(count, batch_size).epoch(epoch))
    indices = torch.cat([batch["indices"] for batch in batches])
    assert sorted(indices.tolist()) == list(range(count))
    sizes = [len(batch["indices"]) for batch in batches]
    assert sizes == [batch_size] * (count // batch_size) + ([count % batch_size] if count % batch_size else [])
    assert len(batches) == _loader(count, batch_size).length(epoch)
    for batch in batches:
        assert torch.equal(batch["features"][:, 0], batch["indices"].float())
        assert torch.equal(batch["targets"], batch["indices"] % 3)
        assert torch.equal(batch["identities"][batch["slots"]], batch["targets"])
        assert batch["identities"].tolist() == sorted(set(batch["targets"].tolist()))


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 20), st.data())
def test_going_on_inside_an_epoch(count, batch_size, iterations, data):
    loader = _loader(count, batch_size, iterations)
    whole = [batch["indices"].tolist() for batch in loader.epoch(1)]
    assert len(whole) == loader.length(1) == (iterations or -(-count // batch_size))
    first = data.draw(st.integers(0, len(whole)))
    assert [batch["indices"].tolist() for batch in loader.epoch(1, first)] == whole[first:]


def test_epochs_and_seeds_differ():
    orders = [
        [batch["indices"].tolist() for batch in _loader(50, 50, seed=seed).epoch(epoch)]
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_bad_input():
    with pytest.raises(ValueError, match="batch size of cached features must be positive, got 0"):
        FeatureLoader(torch.zeros(3, dtype=torch.int64), 0)
    with pytest.raises(ValueError, match="no image"):
        FeatureLoader(torch.zeros(0, dtype=torch.int64), 4)
    with pytest.raises(ValueError, match="ITERATIONS_PER_EPOCH must not be negative"):
        FeatureLoader(torch.zeros(3, dtype=torch.int64), 4, -1)
    loader = FeatureLoader(torch.zeros(3, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="call set_features first"):
        next(loader.epoch(0))
    assert list(loader.epoch(0, 2)) == []  # of an epoch that is over nothing is needed
    with pytest.raises(ValueError, match="3 targets, got 4"):
        loader.set_features(torch.zeros(4, 2))
    loader.set_features(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="has 2 iterations, cannot go on at 3"):
        next(loader.epoch(0, 3))
    loader.close()
    assert loader.features is None
