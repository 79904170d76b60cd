"""Cameras of test sets in the model's numbering, and results of several sets as one level of scalars."""

import pytest
import torch

from reid_core.engine.test_sets import TestSets, build_datasets, flatten_results
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.projects import load_config


class Spy(MetaArchitecture):
    def __init__(self):
        super().__init__([0.5] * 3, [0.5] * 3)
        self.seen = []

    def features(self, batch):
        self.seen.append(batch.get("camids"))
        return batch["images"].float().mean(dim=(2, 3))


@pytest.mark.parametrize(("offsets", "expected"), [({"Market1501": 5}, {5, 6}), ({"Other": 0}, None)])
def test_cameras_are_shifted_or_left_out(market_config, small_run, offsets, expected):
    cfg = load_config(market_config, small_run())
    sets = TestSets(cfg, build_datasets(cfg, ["Market1501"]), offsets)
    model = Spy()
    results = sets.evaluate(model)
    assert results["Market1501"]["mAP"] > 50  # identities of the tiny set have colours
    if expected is None:
        assert all(camids is None for camids in model.seen)
    else:
        assert set(torch.cat(model.seen).tolist()) == expected


def test_flattening():
    assert flatten_results({"A": {"mAP": 1.0, "per_query": {"AP": [1]}}}) == {"mAP": 1.0}
    flat = flatten_results({"A": {"mAP": 1.0}, "B": {"mAP": 3.0, "rank1": 4.0}})
    assert flat == {"A/mAP": 1.0, "B/mAP": 3.0, "B/rank1": 4.0, "mAP": 2.0}
