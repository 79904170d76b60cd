"""Models from checkpoints: evaluated without being trained, alone or together, or to start from."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from torch import Tensor

from reid_core.config import CfgNode, ConfigError, get_cfg
from reid_core.data.datasets import ReIDDataset
from reid_core.engine.test_sets import TestSets, build_datasets
from reid_core.evaluation import build_evaluator
from reid_core.modeling import checkpoint as checkpoints
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.modeling.trained import build_trained
from reid_core.projects import add_project
from reid_core.retrieval.ensemble import HOW, combine_features
from reid_core.utils.device import resolve_device
from reid_core.utils.logging import get_logger
from reid_core.utils.seed import seed_everything

_OF_THE_RUN = ("DATALOADER", "DATASETS", "DEVICE", "OUTPUT_DIR", "SEED", "TEST")
"""Keys that say how a model is evaluated, not what it is."""


def evaluate_only(cfg: CfgNode) -> dict[str, dict]:
    """Evaluate MODEL.WEIGHTS (or, without, the untrained model) on DATASETS.TEST; results by dataset.

    The model is built without what belongs to training identities, so any number of them fits; its tables of side
    information have the checkpoint's sizes. The features of TEST.ENSEMBLE_WEIGHTS are combined with its own (see
    `combine_features`); one model at a time is in memory.

    Raises CheckpointError for what is no checkpoint of the model, ConfigError for keys that do not fit.
    """
    seed_everything(cfg.SEED)
    datasets = build_datasets(cfg, cfg.DATASETS.TEST)
    if cfg.TEST.ENSEMBLE_WEIGHTS:
        return _evaluate_ensemble(cfg, datasets)
    model, sets = model_with_test_sets(cfg, datasets, cfg.MODEL.WEIGHTS)
    return sets.evaluate(model)


def model_with_test_sets(
    cfg: CfgNode, datasets: Mapping[str, ReIDDataset], weights: str | Path
) -> tuple[MetaArchitecture, TestSets]:
    """The model of the checkpoint `weights` (of "": untrained, with a warning), in evaluation mode, and the test sets
    with the cameras that it knows.

    Raises CheckpointError for what is no checkpoint of the config's model, ConfigError as `check_side_information`.
    """
    device = resolve_device(cfg.DEVICE)
    if not weights:
        get_logger().warning("MODEL.WEIGHTS is empty: this is the model as it starts, untrained for ReID.")
        sets = TestSets(cfg, datasets, {}, side_information=False)
        return build_model(cfg, device, 0, 1, 1).eval(), sets
    content = checkpoints.read_checkpoint(weights)
    sets = TestSets(cfg, datasets, content["data"].get("camera_offsets", {}), cfg.TEST.SIDE_INFORMATION)
    model = build_trained(cfg, content, weights, device).eval()
    sets.check_side_information(model)
    return model, sets


def _evaluate_ensemble(cfg: CfgNode, datasets: Mapping[str, ReIDDataset]) -> dict[str, dict]:
    """Results of the combined features, by dataset."""
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError("TEST.ENSEMBLE_WEIGHTS are checkpoints beside MODEL.WEIGHTS, which is empty.")
    if cfg.TEST.ENSEMBLE not in HOW:
        raise ConfigError(f"TEST.ENSEMBLE must be one of {', '.join(HOW)}, got '{cfg.TEST.ENSEMBLE}'.")
    members = {cfg.MODEL.WEIGHTS: cfg}
    members |= {path: config_of_checkpoint(cfg, path) for path in cfg.TEST.ENSEMBLE_WEIGHTS}
    if len(members) <= len(cfg.TEST.ENSEMBLE_WEIGHTS):
        raise ConfigError("MODEL.WEIGHTS and TEST.ENSEMBLE_WEIGHTS name a checkpoint twice.")
    encoded = [_encode(own, datasets, path) for path, own in members.items()]
    get_logger().info(f"TEST.ENSEMBLE {cfg.TEST.ENSEMBLE}: the features of {', '.join(members)}.")
    results = {}
    for name, dataset in datasets.items():
        sides = zip(*(features[name] for features in encoded), strict=True)
        combined = [combine_features(side, cfg.TEST.ENSEMBLE) for side in sides]
        results[name] = build_evaluator(cfg, dataset).evaluate(*combined)
    return results


def _encode(cfg: CfgNode, datasets: Mapping[str, ReIDDataset], path: str) -> dict[str, list[Tensor]]:
    """Features of query and gallery by dataset. The model lives no longer than this call."""
    model, sets = model_with_test_sets(cfg, datasets, path)
    return {name: sets.encode(model, name) for name in datasets}


def config_of_checkpoint(cfg: CfgNode, path: str | Path) -> CfgNode:
    """The config that a checkpoint was trained with, for its model and its images; the rest (data, test settings,
    device) is the run's. So are the projects: a checkpoint names them, but no code is loaded from where it says.

    Raises CheckpointError for a file that is no checkpoint or holds no config, ConfigError for a project that the run
    does not have, and for a config that this version cannot read.
    """
    content = checkpoints.read_checkpoint(path)
    if "config" not in content:
        raise checkpoints.CheckpointError(f"{path} holds no config, so its model is unknown; evaluate it on its own.")
    saved = yaml.safe_load(content["config"])
    own, here = get_cfg(), {Path(folder).name: folder for folder in cfg.PROJECTS}
    for name in (Path(folder).name for folder in saved.pop("PROJECTS", [])):
        if name not in here:
            raise ConfigError(
                f"{path} was trained with the project '{name}', which this run does not load "
                f"({', '.join(here) or 'none'}): add PROJECTS \"['path/to/{name}']\"."
            )
        add_project(own, here[name])
    own.merge_from_dict({key: value for key, value in saved.items() if key not in _OF_THE_RUN}, source=str(path))
    for key in _OF_THE_RUN:
        setattr(own, key, cfg[key])
    return own
