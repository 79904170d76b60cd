"""Weights files of other programs: their tensors by name, read without running anything unless the caller insists."""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from reid_core.modeling.clip.torchscript import is_torchscript_archive, read_torchscript_tensors
from reid_core.utils.logging import get_logger

_NESTED_UNDER = ("state_dict", "model", "model_state_dict")
_PARALLEL = "module."  # what DataParallel and DistributedDataParallel put before every name
_FORBIDDEN = re.compile(r"(?:Unsupported class|GLOBAL) (\S+)")


class ConversionError(ValueError):
    """A file that cannot be converted; the text says which, why, and what to do."""


@dataclass
class SourceWeights:
    """tensors: by the names that the file gives them, CPU. others: what lies beside them, and what it is. prefix: what
    stood before every name and was taken away."""

    tensors: dict[str, Tensor]
    others: dict[str, str] = field(default_factory=dict)
    prefix: str = ""


def read_source(path: str | Path, unsafe: bool = False) -> SourceWeights:
    """The tensors of a file that another program wrote: a state dict saved by torch (also inside of a dictionary, or
    with "module." before all names), safetensors, or a TorchScript archive, of which no code is run.

    unsafe: also read pickles of more than tensors and plain values, which runs code from the file.
    Raises FileNotFoundError, or ConversionError for what is no such file, is damaged, or asks for more than is allowed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.p*t*")) if path.parent.is_dir() else []
        raise FileNotFoundError(f"There is no weights file {path}. In its folder: {', '.join(near) or 'none'}.")
    if path.suffix == ".safetensors":
        try:
            content: Any = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ConversionError(f"{path} is not a readable safetensors file: {error}.") from error
    elif is_torchscript_archive(path):
        content = read_torchscript_tensors(path)
    else:
        content = _read_pickle(path, unsafe)
    return _weights_of(content, path)


def _read_pickle(path: Path, unsafe: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not unsafe:
            raise ConversionError(_refusal(path, error)) from error
    except Exception as error:  # a damaged pickle can end in an error of any type
        raise ConversionError(_damage(path, error)) from error
    get_logger().warning("%s is read as it asks for: code that came with it runs now (--unsafe).", path)
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise ConversionError(_damage(path, error)) from error


def _weights_of(content: Any, path: Path) -> SourceWeights:
    others: dict[str, str] = {}
    if isinstance(content, nn.Module):
        content = content.state_dict()
    for key in _NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping | nn.Module):
            others |= {str(name): _describe(value) for name, value in content.items() if name != key}
            content = content[key].state_dict() if isinstance(content[key], nn.Module) else content[key]
    entries = dict(content) if isinstance(content, Mapping) else {}
    tensors = {name: value for name, value in entries.items() if isinstance(name, str) and isinstance(value, Tensor)}
    others |= {str(name): _describe(value) for name, value in entries.items() if name not in tensors}
    if not tensors:
        raise ConversionError(f"{path} holds no state dict: expected named tensors, found {_describe(content)}.")
    prefix = _PARALLEL if all(name.startswith(_PARALLEL) for name in tensors) else ""
    return SourceWeights({name.removeprefix(prefix): value for name, value in tensors.items()}, others, prefix)


def _refusal(path: Path, error: Exception) -> str:
    asked = _FORBIDDEN.search(str(error))
    wants = f"it asks for {asked[1].rstrip('.')}" if asked else "it is no pickle of torch's, or a damaged one"
    return (
        f"{path} is refused: reading it could run code that came with it ({wants}), where tensors and plain values are "
        "all that is needed. Ask its author for a plain state dict. If you trust the file as you trust a program that "
        "you run, --unsafe reads it all the same."
    )


def _damage(path: Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{path} ({path.stat().st_size} bytes) is damaged or no weights file: {reason}. Download it again."


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dictionary with {', '.join(map(str, list(content)[:5])) or 'no entries'}"
    return f"{type(content).__name__} {content!r}" if isinstance(content, int | float | str) else type(content).__name__
