"""Which evaluator a dataset gets."""

from types import SimpleNamespace

import pytest

from reid_core.config import get_cfg
from reid_core.data.datasets import Market1501, VehicleID
from reid_core.evaluation import RandomGalleryEvaluator, ReIDEvaluator, build_evaluator
from reid_core.structures import ReIDImage


def build(evaluator_of_dataset, *overrides):
    cfg = get_cfg()
    cfg.merge_from_list(list(overrides))
    records = [ReIDImage("a.jpg", 1, 0)]
    dataset = SimpleNamespace(name="Tiny", query=records, gallery=records, evaluator=evaluator_of_dataset)
    return build_evaluator(cfg, dataset)


@pytest.mark.parametrize(("reader", "expected"), [(Market1501, ReIDEvaluator), (VehicleID, RandomGalleryEvaluator)])
def test_the_dataset_says_which(reader, expected):
    assert type(build(reader.evaluator)) is expected


def test_the_config_overrides_the_dataset():
    assert type(build("RandomGalleryEvaluator", "TEST.EVALUATOR", "ReIDEvaluator")) is ReIDEvaluator
    assert type(build("", "TEST.EVALUATOR", "RandomGalleryEvaluator")) is RandomGalleryEvaluator


def test_a_wrong_name_is_answered():
    with pytest.raises(LookupError, match="Did you mean 'RandomGalleryEvaluator'"):
        build("RandomGallery")
