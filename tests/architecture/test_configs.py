"""Every YAML of every project loads, and names only what is registered."""

import pytest

import reid_core.engine.default_trainer  # noqa: F401  (registers the core's classes)
from reid_core import registry
from reid_core.projects import load_config
from tests.paths import ROOT

CONFIGS = sorted((ROOT / "projects").rglob("configs/**/*.yml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "projects")))
def test_config_loads_and_its_names_are_registered(path):
    cfg = load_config(path)
    registry.META_ARCHITECTURE_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    registry.BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)
    registry.HEADS_REGISTRY.get(cfg.MODEL.HEADS.NAME)
    registry.SAMPLER_REGISTRY.get(cfg.DATALOADER.SAMPLER)
    registry.OPTIMIZER_REGISTRY.get(cfg.SOLVER.OPTIMIZER)
    registry.SCHEDULE_REGISTRY.get(cfg.SOLVER.SCHEDULE)
    assert cfg.TEST.EVALUATOR == "auto" or registry.EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)
    registry.TRAINER_REGISTRY.get(cfg.TRAINER)
    for name in [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]:
        registry.DATASET_REGISTRY.get(name)
    for name in [*cfg.INPUT.TRAIN_TRANSFORMS, *cfg.INPUT.TEST_TRANSFORMS]:
        registry.TRANSFORM_REGISTRY.get(name)
    for name in cfg.HOOKS:
        registry.HOOK_REGISTRY.get(name)
    assert cfg.DATALOADER.BATCH_SIZE % cfg.DATALOADER.NUM_INSTANCES == 0


def test_output_folders_do_not_collide():
    runs = [path for path in CONFIGS if path.name != "base.yml" and path.parent.name != "base"]
    folders = [load_config(path).OUTPUT_DIR for path in runs]
    assert len(folders) == len(set(folders))
