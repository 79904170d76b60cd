"""Architectures by open_clip's names or by a JSON file of open_clip's format, and the towers built from them."""

import dataclasses
import difflib
import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import nn

_REQUIRED = ("embed_dim", "vision_cfg", "text_cfg")


def read_architecture(architecture: str) -> dict[str, Any]:
    """open_clip's description of a model: embed_dim, vision_cfg, text_cfg, quick_gelu ...

    architecture: one of open_clip's names (`ViT-B-16-quickgelu`) or the path of a JSON file in the same format.
    Raises ValueError for an unknown name (listing the nearest) or a file with missing or unknown keys,
    FileNotFoundError for a missing file.
    """
    if not architecture.endswith(".json"):
        config = open_clip.get_model_config(architecture.replace("/", "-")) if ":" not in architecture else None
        if config is None:
            raise ValueError(_unknown_name(architecture))
        return config
    path = Path(architecture).expanduser()
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"Architecture file {path} does not exist (working folder: {Path.cwd()}).") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"Architecture file {path} is not JSON: {error}") from error
    _check_description(config, path)
    return config


def build_image_tower(architecture: str) -> nn.Module:
    """open_clip's image tower of an architecture with random weights, at the architecture's own input size.

    Returns open_clip's `VisionTransformer` or `ModifiedResNet`. Raises ValueError for towers of other libraries.
    """
    config = read_architecture(architecture)
    vision = config["vision_cfg"]
    if vision.get("timm_model_name"):
        raise ValueError(
            f"The image tower of '{architecture}' is timm's '{vision['timm_model_name']}'; only open_clip's own ViT "
            "and ModifiedResNet can be adapted, e.g. ViT-B-16-quickgelu, ViT-L-14-quickgelu or RN50-quickgelu."
        )
    # open_clip builds whole models only: give it a text tower of next to nothing, and keep the image tower
    text = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
    return open_clip.CLIP(
        config["embed_dim"], vision_cfg=vision, text_cfg=text, quick_gelu=config.get("quick_gelu", False)
    ).visual


def parameter_shapes(architecture: str) -> dict[str, torch.Size]:
    """Names (OpenAI's) and shapes of the state dict of a whole CLIP; without the text tower if it is a Hugging Face
    model. Takes no memory: the model is built without storage."""
    config = read_architecture(architecture)
    with torch.device("meta"):
        if config["text_cfg"].get("hf_model_name"):
            shapes = build_image_tower(architecture).state_dict()
            return {f"visual.{name}": value.shape for name, value in shapes.items()}
        model = open_clip.CLIP(
            config["embed_dim"],
            vision_cfg=config["vision_cfg"],
            text_cfg=config["text_cfg"],
            quick_gelu=config.get("quick_gelu", False),
        )
    return {name: value.shape for name, value in model.state_dict().items()}


def _unknown_name(architecture: str) -> str:
    known = open_clip.list_models()
    lowered = {name.lower(): name for name in known}
    near = [lowered[name] for name in difflib.get_close_matches(architecture.lower(), list(lowered), n=5, cutoff=0.4)]
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return (
        f"open_clip has no architecture '{architecture}'.{hint} It knows {len(known)} "
        "(open_clip.list_models()); a model of your own is given by the path of a .json file in open_clip's format."
    )


def _check_description(config: Any, path: Path) -> None:
    if not isinstance(config, dict):
        raise ValueError(f"Architecture file {path} must hold an object with {', '.join(_REQUIRED)}.")
    missing = [key for key in _REQUIRED if key not in config]
    if missing:
        raise ValueError(
            f"Architecture file {path} lacks {', '.join(missing)}; open_clip's format has {', '.join(_REQUIRED)} "
            "and, for OpenAI's activation, quick_gelu."
        )
    for group, schema in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        known = [field.name for field in dataclasses.fields(schema)]
        if not isinstance(config[group], dict):
            raise ValueError(f"'{group}' in {path} must be an object, got {config[group]!r}.")
        for key in config[group]:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(known)}."
                raise ValueError(f"Unknown key '{key}' of {group} in {path}.{hint}")
