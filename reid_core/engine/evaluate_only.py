"""Models from checkpoints: evaluated without being trained, or to start from."""

from pathlib import Path

import torch

from reid_core.config import CfgNode
from reid_core.engine import checkpoint as checkpoints
from reid_core.engine.device import resolve_device
from reid_core.engine.test_sets import TestSets, build_datasets
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.utils.logging import get_logger
from reid_core.utils.seed import seed_everything


def evaluate_only(cfg: CfgNode) -> dict[str, dict]:
    """Evaluate MODEL.WEIGHTS (or, without, the untrained model) on DATASETS.TEST; results by dataset.

    The model is built without what belongs to training identities, so any number of them fits; its tables of side
    information have the checkpoint's sizes.
    """
    device = resolve_device(cfg.DEVICE)
    seed_everything(cfg.SEED)
    datasets = build_datasets(cfg, cfg.DATASETS.TEST)
    if not cfg.MODEL.WEIGHTS:
        get_logger().warning("MODEL.WEIGHTS is empty: the model is evaluated as it starts, untrained for ReID.")
        return TestSets(cfg, datasets, {}, side_information=False).evaluate(build_model(cfg, device, 0, 1, 1))
    content = checkpoints.read_checkpoint(cfg.MODEL.WEIGHTS)
    model = build_trained(cfg, content, cfg.MODEL.WEIGHTS, device)
    offsets = content["data"].get("camera_offsets", {})
    return TestSets(cfg, datasets, offsets, cfg.TEST.SIDE_INFORMATION).evaluate(model)


def build_trained(
    cfg: CfgNode, content: dict, path: str | Path, device: torch.device, num_identities: int = 0
) -> MetaArchitecture:
    """The model of the config with the weights of a checkpoint's content; `path` names it in messages.

    num_identities: 0 leaves out what belongs to the training identities.
    """
    data = content["data"]
    cameras, views = data.get("num_cameras", 1), data.get("num_views", 1)
    model = build_model(without_pretrained(cfg), device, num_identities, cameras, views)
    load_weights(model, content, path)
    return model


def load_weights(
    model: MetaArchitecture, content: dict, path: str | Path, label_map: list[str] | None = None
) -> checkpoints.LoadReport:
    """`load_model`, with its notes in the log."""
    report = checkpoints.load_model(model, content, path, label_map)
    for note in report.notes:
        get_logger().warning("%s", note)
    return report


def without_pretrained(cfg: CfgNode) -> CfgNode:
    """The config for a model whose weights are about to be replaced: CLIP's own need not be there."""
    cfg = cfg.clone()
    cfg.MODEL.BACKBONE.PRETRAINED = ""
    return cfg
