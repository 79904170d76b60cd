"""Models with the weights of a checkpoint."""

from pathlib import Path

import torch

from reid_core.config import CfgNode
from reid_core.modeling import checkpoint as checkpoints
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.utils.logging import get_logger


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
