"""Checkpoints: written whole or not at all, read without running anything that came with them."""

import io
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from reid_core.utils.file_io import atomic_file

FORMAT = "reid-core checkpoint 1"
_NAME = re.compile(r"checkpoint_(\d{8})\.pt")


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read or used; the text says which, why, and what to do."""


def checkpoint_path(folder: Path, iteration: int) -> Path:
    """Where the checkpoint after `iteration` steps lies."""
    return Path(folder) / f"checkpoint_{iteration:08d}.pt"


def list_checkpoints(folder: Path) -> list[Path]:
    """The numbered checkpoints of a folder, oldest first."""
    if not Path(folder).is_dir():
        return []
    return sorted(path for path in Path(folder).iterdir() if _NAME.fullmatch(path.name))


def save_checkpoint(path: Path, content: dict) -> None:
    """Write `content` (numbers, text, lists, dictionaries, tensors) to `path`, atomically.

    Raises CheckpointError if a floating-point tensor of the model is not finite or the disk refuses; then what stood
    at `path` is untouched and nothing is left beside it.
    """
    bad = [name for name, value in content["model"].items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise CheckpointError(f"{path} was not written: {len(bad)} tensors hold NaN or infinity, first {bad[0]}.")
    try:
        with atomic_file(path) as file:
            guarded = _GuardedFile(file)
            torch.save({"format": FORMAT, **content}, guarded)
            guarded.raise_failure()
    except OSError as error:
        raise CheckpointError(
            f"{path} could not be written: {error.strerror or error}. Older checkpoints are untouched; "
            "free some space or choose another OUTPUT_DIR, then go on with --resume."
        ) from error


class _GuardedFile(io.RawIOBase):
    """Keeps the first failed write and swallows the rest: torch's archive writer aborts the process over an error."""

    def __init__(self, file: io.RawIOBase):
        self._file, self._failure = file, None

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:
        if self._failure is None:
            try:
                self._file.write(content)
            except OSError as error:
                self._failure = error
        return len(content)

    def flush(self) -> None:
        if self._failure is None:
            try:
                self._file.flush()
            except OSError as error:
                self._failure = error

    def raise_failure(self) -> None:
        self.flush()
        if self._failure is not None:
            raise self._failure


def read_checkpoint(path: str | Path) -> dict:
    """A checkpoint's content, tensors on the CPU. Raises CheckpointError for anything that is not one of ours."""
    path = Path(path).expanduser()
    if path.is_dir():
        found = list_checkpoints(path)
        raise CheckpointError(
            f"{path} is a folder; name a file in it: {', '.join(p.name for p in found) or 'it holds no checkpoint'}."
        )
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.pt")) if path.parent.is_dir() else []
        raise CheckpointError(f"There is no checkpoint {path}. In its folder: {', '.join(near) or 'no .pt file'}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was refused: loading it would run code that came with it ({str(error).splitlines()[0]}). "
            "Only checkpoints of tensors and plain values are read."
        ) from error
    except Exception as error:  # torch fails in any way over a file that is none of its own
        raise CheckpointError(f"{path} ({path.stat().st_size} bytes) is damaged or no checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of this toolkit (no '{FORMAT}' in it). CLIP weights to start from belong "
            "into MODEL.BACKBONE.PRETRAINED."
        )
    return content


@dataclass
class LoadReport:
    """What loading weights into a model left out or changed; `notes` are sentences for the log.

    not_loaded: names of the model's own that belong to its training identities and that the checkpoint did not bring.
    lacks_temporary: the model has parts of an early stage of training (`model.temporary`) that the checkpoint has not.
    """

    notes: list[str]
    left_out: list[str]
    not_loaded: list[str] = field(default_factory=list)
    lacks_temporary: bool = False


def load_model(model: nn.Module, checkpoint: dict, path: str | Path, label_map: list[str] | None = None) -> LoadReport:
    """Load a checkpoint's weights into a model of the same architecture.

    What belongs to training identities (`model.identity_bound`) is left out where the model has no place for it, or
    has other identities: another number, or with `label_map` other ones. What only an early stage of training needs
    (`model.temporary`) may be missing on either side, what only training needs (`model.training_only`) in the model.
    Position tables of another input size are resized by the
    submodules that have `adapt_state_dict`. Anything else that differs raises CheckpointError, and the model is
    unchanged.
    """
    state, notes = dict(checkpoint["model"]), []
    for prefix, module in model.named_modules():
        if module is not model and hasattr(module, "adapt_state_dict"):
            inner = {key[len(prefix) + 1 :]: state.pop(key) for key in list(state) if key.startswith(prefix + ".")}
            adapted, said = module.adapt_state_dict(inner)
            state.update({f"{prefix}.{key}": value for key, value in adapted.items()})
            notes += said
    own = model.state_dict()
    temporary = tuple(getattr(model, "temporary", ())) or ("\0",)
    state, foreign = _without_training_parts(model, state, own, checkpoint.get("parts", {}))
    if foreign:
        notes.append(f"Left out {', '.join(foreign)}: what {path} was trained with and this model has no place for.")
    lacks_temporary = not any(key.startswith(temporary) for key in state)
    left_out = _drop_identities(model, state, own, checkpoint.get("data", {}), label_map)
    if left_out:
        count = len(checkpoint.get("data", {}).get("label_map", []))
        notes.append(f"Left out {', '.join(left_out)}: they belong to the {count} training identities of {path}.")
    identity_bound = tuple(getattr(model, "identity_bound", ()))
    may_lack = (*identity_bound, *(temporary if lacks_temporary else ()))
    missing = [key for key in own if key not in state and not (may_lack and key.startswith(may_lack))]
    unknown = [key for key in state if key not in own]
    shapes = [key for key in state if key in own and state[key].shape != own[key].shape]
    if missing or unknown or shapes:
        raise CheckpointError(_mismatch(path, checkpoint, missing, unknown, shapes, state, own))
    model.load_state_dict(state, strict=False)
    not_loaded = [key for key in own if key not in state]
    return LoadReport(notes, left_out, not_loaded, lacks_temporary and any(key.startswith(temporary) for key in own))


def model_parts(model: nn.Module) -> dict[str, list[str]]:
    """What a model says about the names of its weights, for a checkpoint: another model can leave them out by it."""
    return {kind: list(getattr(model, kind, ())) for kind in ("identity_bound", "temporary", "training_only")}


def _without_training_parts(
    model: nn.Module, state: dict[str, Tensor], own: dict[str, Tensor], saved_parts: dict[str, list[str]]
) -> tuple[dict[str, Tensor], list[str]]:
    """The state without parts that only training needs where the model has none; and of these, the parts that only the
    checkpoint's method knows."""
    ours = model_parts(model)
    identity_bound = ours.pop("identity_bound")  # left out by `_drop_identities`
    known = {part for parts in ours.values() for part in parts}
    saved = {part for parts in saved_parts.values() for part in parts} - {*known, *identity_bound}
    absent = {part for part in known | saved if not any(key.startswith(part) for key in own)}
    left_out = {part for part in absent & saved if any(key.startswith(part) for key in state)}
    state = {key: value for key, value in state.items() if not key.startswith(tuple(absent) or ("\0",))}
    return state, sorted(part.rstrip(".") for part in left_out)


def _drop_identities(
    model: nn.Module, state: dict[str, Tensor], own: dict[str, Tensor], data: dict, label_map: list[str] | None
) -> list[str]:
    others = label_map is not None and data.get("label_map") is not None and data["label_map"] != label_map
    dropped = []
    for key in list(state):
        if not key.startswith(tuple(getattr(model, "identity_bound", ())) or ("\0",)):
            continue
        if others or key not in own or own[key].shape != state[key].shape:
            dropped.append(key)
            del state[key]
    return dropped


def _mismatch(
    path: str | Path,
    checkpoint: dict,
    missing: list[str],
    unknown: list[str],
    shapes: list[str],
    state: dict[str, Tensor],
    own: dict[str, Tensor],
) -> str:
    parts = [f"{path} does not fit the model of the config"]
    if missing:
        parts.append(f"it lacks {len(missing)} tensors ({', '.join(missing[:4])})")
    if unknown:
        parts.append(f"it has {len(unknown)} that the model has not ({', '.join(unknown[:4])})")
    if shapes:
        first = [f"{key} is {list(state[key].shape)}, the model's {list(own[key].shape)}" for key in shapes[:4]]
        parts.append(f"{len(shapes)} have another shape ({'; '.join(first)})")
    advice = "Use the config.yaml that was written beside the checkpoint"
    if checkpoint.get("architecture"):
        advice += f"; it was trained as {checkpoint['architecture']}"
    return f"{'; '.join(parts)}. {advice}."
