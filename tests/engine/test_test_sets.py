"""Cameras of test sets in the model's numbering, and results of several sets as one level of scalars."""

import pytest
import torch

from reid_core.config import ConfigError
from reid_core.data.rendering import RenderingOptions, render_dataset
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


def test_each_dataset_is_scored_by_its_own_protocol(market_config, small_run, small_market, tmp_path):
    cfg = load_config(market_config, small_run(DATASETS__ROOT=str(tmp_path), TEST__RANDOM_GALLERIES=3))
    (tmp_path / "Market-1501-v15.09.15").symlink_to(small_market / "Market-1501-v15.09.15")
    options = {"train_identities": 2, "test_identities": 4, "cameras": 2, "cameras_per_identity": 2, "distractors": 1}
    render_dataset(tmp_path, RenderingOptions(layout="vehicleid", height=64, width=64, **options))
    sets = TestSets(cfg, build_datasets(cfg, ["Market1501", "VehicleID"]), {"VehicleID": 0})
    assert [type(evaluator).__name__ for evaluator in sets.evaluators.values()] == [
        "ReIDEvaluator",
        "RandomGalleryEvaluator",
    ]
    assert sets.evaluators["VehicleID"].galleries == 3
    results = sets.evaluate(Spy())
    assert "mAP_std" not in results["Market1501"] and results["VehicleID"]["mAP_std"] >= 0
    assert flatten_results(results)["mAP"] == (results["Market1501"]["mAP"] + results["VehicleID"]["mAP"]) / 2


def test_flattening():
    assert flatten_results({"A": {"mAP": 1.0, "per_query": {"AP": [1]}}}) == {"mAP": 1.0}
    flat = flatten_results({"A": {"mAP": 1.0}, "B": {"mAP": 3.0, "rank1": 4.0}})
    assert flat == {"A/mAP": 1.0, "B/mAP": 3.0, "B/rank1": 4.0, "mAP": 2.0}


class SideInformed(Spy):
    def __init__(self, cameras, views):
        super().__init__()
        self.backbone = torch.nn.Identity()
        self.backbone.num_cameras, self.backbone.num_views = cameras, views


@pytest.mark.parametrize(
    ("offsets", "cameras", "views", "problem"),
    [
        ({"Market1501": 0}, 2, 0, None),
        ({"Market1501": 0}, 1, 0, "Market1501 has 2 cameras, the model's side information was trained for 1"),
        ({"A": 0, "Market1501": 4}, 6, 1, None),
        ({"A": 0, "Market1501": 4}, 5, 0, "has 2 cameras, .* for 1"),
        ({"Market1501": 0, "Z": 1}, 9, 0, "has 2 cameras, .* for 1"),  # the rows behind are another dataset's
        ({"Other": 0}, 1, 0, "has 2 cameras, .* for 1"),
        ({"Other": 0}, 0, 1, None),
    ],
)
def test_more_cameras_than_the_model_knows_are_refused(
    market_config, small_run, offsets, cameras, views, problem, caplog
):
    cfg = load_config(market_config, small_run())
    datasets = build_datasets(cfg, ["Market1501"])
    model = SideInformed(cameras, views)
    if problem is None:
        TestSets(cfg, datasets, offsets).evaluate(model)
        assert ("without side information" in caplog.text) == ("Market1501" not in offsets)
        return
    with pytest.raises(ConfigError, match=problem):
        TestSets(cfg, datasets, offsets).evaluate(model)
    assert not model.seen
    TestSets(cfg, datasets, offsets, side_information=False).evaluate(model)
    assert all(camids is None for camids in model.seen)
