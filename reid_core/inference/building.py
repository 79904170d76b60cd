"""From a checkpoint's content to its model."""

from collections.abc import Sequence
from pathlib import Path

import torch

from reid_core.config import CfgNode
from reid_core.inference.trained_config import read_trained_config
from reid_core.modeling.checkpoint import CheckpointError, load_model
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.modeling.trained import without_pretrained
from reid_core.utils.logging import get_logger


def build_from_content(
    content: dict, source: str | Path, projects: Sequence[str | Path] = ()
) -> tuple[CfgNode, MetaArchitecture]:
    """The config and the model, for evaluation, on the CPU, of a checkpoint's content; `source` names it in messages.

    The random generators are left as they were. Raises CheckpointError for content that is no model, ConfigError as
    `read_trained_config`.
    """
    if not isinstance(content.get("config"), str) or not isinstance(content.get("data"), dict):
        raise CheckpointError(f"{source} does not say how its model is built: it holds no config.")
    cfg = read_trained_config(content["config"], source, projects)
    data = content["data"]
    cameras, views = data.get("num_cameras", 1), data.get("num_views", 1)
    with torch.random.fork_rng(devices=[]):
        model = build_model(without_pretrained(cfg), "cpu", 0, cameras, views)
    for note in load_model(model, content, source).notes:
        get_logger().info("%s", note)
    return cfg, model.eval()
