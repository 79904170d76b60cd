"""Runs of the two-stage methods that take a second."""

import pytest

from reid_core.projects import load_config
from reid_core.registry import TRAINER_REGISTRY
from tests.paths import ROOT

PROJECTS = ROOT / "projects"


@pytest.fixture(scope="session")
def prompts_config() -> str:
    """The method's config for Market-1501 and the ViT."""
    return str(PROJECTS / "CLIP_ReID" / "configs" / "market_vit.yml")


@pytest.fixture
def prompts_run(small_run):
    """prompts_run(**more) -> the words after --config-file; two epochs a stage, 5 and 3 steps each."""

    def words(**more: object) -> list[str]:
        keys = {
            "STAGES__PROMPTS__SOLVER__MAX_EPOCHS": 2,
            "STAGES__PROMPTS__SOLVER__BASE_LR": 0.01,
            "STAGES__PROMPTS__SOLVER__WARMUP_EPOCHS": 0,
            "STAGES__PROMPTS__BATCH_SIZE": 5,
            "SOLVER__BASE_LR": 0.001,
            "TEST__PERIOD": 1,
            **more,
        }
        return small_run(**keys)

    return words


@pytest.fixture
def prompts_trainer(prompts_config, prompts_run):
    """prompts_trainer(**more) -> the trainer of such a run, before its first step."""

    def make(**more: object):
        cfg = load_config(prompts_config, prompts_run(**more))
        return TRAINER_REGISTRY.get(cfg.TRAINER)(cfg)

    return make


@pytest.fixture(scope="session")
def self_supervised_config() -> str:
    """The config for Market-1501 of the method with self-supervision."""
    return str(PROJECTS / "SVLL_ReID" / "configs" / "market.yml")


@pytest.fixture
def self_supervised_run(prompts_run):
    """The same as prompts_run, with small projectors."""

    def words(**more: object) -> list[str]:
        widths = {"SVLL__PROJECTOR_HIDDEN_WIDTH": 32, "SVLL__PROJECTOR_OUTPUT_WIDTH": 8}
        return prompts_run(**{**widths, **more})

    return words


@pytest.fixture
def self_supervised_trainer(self_supervised_config, self_supervised_run):
    """self_supervised_trainer(**more) -> the trainer of such a run, before its first step."""

    def make(**more: object):
        cfg = load_config(self_supervised_config, self_supervised_run(**more))
        return TRAINER_REGISTRY.get(cfg.TRAINER)(cfg)

    return make
