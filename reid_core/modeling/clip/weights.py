"""Weights of a CLIP from an open_clip tag or a local file, under OpenAI's names, checked against the architecture."""

import difflib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import torch
from open_clip.pretrained import download_pretrained
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reid_core.modeling.clip.model import parameter_shapes, read_architecture
from reid_core.modeling.clip.torchscript import is_torchscript_archive, read_torchscript_tensors
from reid_core.utils.logging import get_logger

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # where a tag names no file
_KEY = "MODEL.BACKBONE.PRETRAINED"
_NESTED_UNDER = ("state_dict", "model")
_TEXT_PARTS = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # numbers that OpenAI's archives carry along
_POSITION_TABLES = ("visual.positional_embedding", "visual.attnpool.positional_embedding")


def load_clip_weights(source: str, architecture: str) -> dict[str, Tensor]:
    """A CLIP's state dict under OpenAI's names (`visual.conv1.weight`, `transformer.resblocks...`), float32, CPU.

    source: an open_clip tag of the architecture (`openai`), downloaded by open_clip or found in its cache; or a file:
    OpenAI's TorchScript archive, a state dict saved by torch (also under "state_dict" or "model", or with "module."
    before the names), or safetensors; names may be OpenAI's, open_clip's with `text.`, or of the image tower alone.
    architecture: a name or JSON file as `read_architecture` takes. No file is executed: see `torchscript.py`; all
    other pickles go through `torch.load(weights_only=True)`.

    The position table keeps the grid it was saved with. The text tower is there if the source has it.
    Raises FileNotFoundError for a missing file and for a tag that cannot be downloaded (saying what to fetch),
    ValueError for unknown tags, unreadable files, and weights of another architecture.
    """
    path = _find_source(source, architecture)
    state = {name: value.float() for name, value in _openai_names(read_state_dict(path)).items()}
    _check_architecture(state, architecture, path)
    _warn_about_activation(state, source, path, architecture)
    return state


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by the names that it gives them. Raises ValueError if it holds no state dict."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}.") from error
    if is_torchscript_archive(path):
        return read_torchscript_tensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can end in an error of any type
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path} is refused: it is damaged, or a pickle of more than tensors ({reason}). Ask its author for a "
            "plain state dict or safetensors."
        ) from error
    for key in _NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    entries = content.items() if isinstance(content, Mapping) else []
    tensors = {name: value for name, value in entries if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no state dict: expected a dictionary of tensors, found {_describe(content)}.")
    return tensors


def _find_source(source: str, architecture: str) -> Path:
    path = Path(source).expanduser()
    if path.is_file():
        return path
    tags = [] if architecture.endswith(".json") else open_clip.list_pretrained_tags_by_model(architecture)
    if not architecture.endswith(".json") and open_clip.get_pretrained_cfg(architecture, source):
        return _download(source, architecture)
    if path.suffix or os.sep in source:
        raise FileNotFoundError(f"Weights file {path} does not exist (working folder: {Path.cwd()}); see {_KEY}.")
    near = difflib.get_close_matches(source, tags, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    known = f"its tags: {', '.join(tags)}" if tags else "it has no tags; give a file, or '' for random weights"
    raise ValueError(f"'{source}' ({_KEY}) is neither a file nor an open_clip tag of '{architecture}'.{hint} {known}.")


def _download(tag: str, architecture: str) -> Path:
    """The tag's file: from its plain address or open_clip's cache, else from the Hugging Face hub or its cache."""
    config = open_clip.get_pretrained_cfg(architecture, tag)
    failure: Exception | None = None
    ways = [_from_address] if config.get("url") else []
    for way in [*ways, _from_hub]:
        try:
            # without a name server the hub's client would retry for a minute: then only its cache is looked at
            if target := way(config, isinstance(getattr(failure, "reason", None), socket.gaierror)):
                return Path(target)
        except Exception as error:  # each download library raises types of its own
            failure = error
    reason = str(failure).strip().splitlines()[0] if str(failure) else type(failure).__name__
    raise FileNotFoundError(
        f"The weights '{tag}' of {architecture} could not be downloaded ({reason}). On a machine with network fetch "
        f"{' or '.join(_addresses(config))}, copy it here, and set {_KEY} to the file's path."
    )


def _from_address(config: Mapping[str, Any], offline: bool) -> str:
    return download_pretrained(config, prefer_hf_hub=False)


def _from_hub(config: Mapping[str, Any], offline: bool) -> str | None:
    if not config.get("hf_hub"):
        return None
    if not offline:
        return download_pretrained(config)
    repository, file = os.path.split(config["hf_hub"])
    cached = (huggingface_hub.try_to_load_from_cache(repository, name) for name in ([file] if file else _HUB_FILES))
    return next((path for path in cached if isinstance(path, str)), None)


def _addresses(config: Mapping[str, Any]) -> list[str]:
    addresses = [config["url"]] if config.get("url") else []
    if config.get("hf_hub"):
        repository, file = os.path.split(config["hf_hub"])
        addresses.append(f"https://huggingface.co/{repository}/resolve/main/{file or _HUB_FILES[0]}")
    return addresses


def _openai_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    state = {name.removeprefix("text."): value for name, value in state.items()}
    if not any(name.startswith("visual.") for name in state):  # an image tower's own state dict
        state = {f"visual.{name}": value for name, value in state.items()}
    return {
        name: value for name, value in state.items() if name not in _NOT_WEIGHTS and not name.endswith("attn_mask")
    }


def _check_architecture(state: Mapping[str, Tensor], architecture: str, path: Path) -> None:
    """Raise ValueError unless the image tower, and the text tower where there is one, is just the architecture's."""
    expected = parameter_shapes(architecture)
    has_text = any(name.startswith(_TEXT_PARTS) for name in state)
    needed = [name for name in expected if name.startswith("visual.") or (has_text and name.startswith(_TEXT_PARTS))]
    knows_text = any(name.startswith(_TEXT_PARTS) for name in expected)
    problems = [f"{name} is missing" for name in needed if name not in state]
    for name, value in state.items():
        if name in expected:
            start = 1 if name in _POSITION_TABLES else 0  # tables of other grids are resized later
            if value.shape[start:] != expected[name][start:]:
                problems.append(f"{name} has shape {list(value.shape)} instead of {list(expected[name])}")
        elif name.startswith("visual.") or (knows_text and name.startswith(_TEXT_PARTS)):
            problems.append(f"{name} is not part of it")
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{path} does not fit the architecture '{architecture}': {'; '.join(problems[:5])}{more}.")


def _warn_about_activation(state: Mapping[str, Tensor], source: str, path: Path, architecture: str) -> None:
    """OpenAI trained with QuickGELU; the same weights under plain GELU load without an error and work badly."""
    from_openai = source.lower() == "openai" or is_torchscript_archive(path)
    if from_openai and not read_architecture(architecture).get("quick_gelu", False):
        get_logger().warning(
            "%s looks like OpenAI's weights, which need QuickGELU, but the architecture '%s' uses GELU; use its "
            "-quickgelu variant (or \"quick_gelu\": true in the JSON file).",
            path,
            architecture,
        )


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dictionary with {', '.join(map(str, list(content)[:5])) or 'no entries'}"
    return f"a {type(content).__name__}"
