"""Loading a trained model: from a checkpoint, a model folder, or the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path

import torch

from reid_core.inference.building import build_from_content
from reid_core.inference.hub import is_hub_id, pull_model_folder
from reid_core.inference.model import ReIDModel
from reid_core.inference.model_folder import is_model_folder, read_model_folder
from reid_core.modeling.checkpoint import read_checkpoint
from reid_core.utils.device import resolve_device


def load(
    source: str | Path,
    device: str | torch.device = "auto",
    projects: Sequence[str | Path] = (),
    precision: str = "float32",
    revision: str | None = None,
) -> ReIDModel:
    """A trained model, ready to encode images. Runs no code that came with it.

    source: a checkpoint file, a model folder (`save_model_folder`), or "user/name" on the Hugging Face hub; what lies
    on the disk goes first. device: "auto", "cpu", "cuda", "cuda:1". projects: folders of the methods that it was
    trained with, where they are not the toolkit's own; they are imported. precision: see `ReIDModel`. revision: branch,
    tag or commit on the hub.

    Raises CheckpointError for what is no model, ConfigError for a project that has to be named, ValueError for a device
    that is not there, OSError if the hub does not give the model.
    """
    place = resolve_device(str(device))
    content, source = _read(source, revision)
    cfg, model = build_from_content(content, source, projects)
    return ReIDModel(model.to(place), cfg, content["data"].get("camera_offsets", {}), precision)


def _read(source: str | Path, revision: str | None) -> tuple[dict, str | Path]:
    """A checkpoint's content, or what a model folder holds in its place; and the file or folder that it is from."""
    path = Path(source).expanduser()
    if not path.exists() and is_hub_id(source):
        path = pull_model_folder(str(source), revision)
        return read_model_folder(path), source
    if is_model_folder(path):
        return read_model_folder(path), path
    return read_checkpoint(path), path
