"""Reading the golden files: where they are, which cases they hold, and the formulas that INDEX.md gives."""

import importlib.util
import os
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

FOLDER = Path(os.environ.get("REID_GOLDEN_DIR", Path(__file__).parents[3] / "shared" / "golden"))


@cache
def load(name: str) -> dict[str, np.ndarray]:
    """The arrays of `<name>.npz`; empty where the golden folder is absent (the tests then skip, see conftest.py)."""
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def cases(name: str, pattern: str) -> list[tuple[str, ...]]:
    """The groups of every key of `<name>.npz` that matches the whole pattern, sorted, each once."""
    found = {match.groups("") for key in load(name) if (match := re.fullmatch(pattern, key))}
    return sorted(found)


@cache
def weights_module() -> ModuleType:
    """`weights.py` of the golden folder: formulas of the weights that the authors' programs were given."""
    spec = importlib.util.spec_from_file_location("golden_weights", FOLDER / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def openai_state_dict(architecture: str) -> dict[str, torch.Tensor]:
    """The golden CLIP state dict ("ViT-B-16" or "RN50") under OpenAI's names; do not change its tensors."""
    arrays = weights_module().openai_clip_state_dict(architecture)
    return {key: torch.from_numpy(value) for key, value in arrays.items()}


def image_batch(seed: int, batch: int, height: int, width: int) -> torch.Tensor:
    """INDEX.md's img(s, b, h, w): float32 [B, 3, H, W], the network's input directly."""
    generator = np.random.Generator(np.random.PCG64(int(seed)))
    low = generator.standard_normal((batch, 3, 8, 4), dtype=np.float32)
    high = generator.standard_normal((batch, 3, height, width), dtype=np.float32)
    images = np.repeat(np.repeat(low, height // 8, axis=2), width // 4, axis=3) + np.float32(0.5) * high
    return torch.from_numpy(images)


def sums(values: torch.Tensor | np.ndarray) -> np.ndarray:
    """INDEX.md's `*_sums`: sum, sum of absolute values, Euclidean norm, in float64."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return np.array([flat.sum(), np.abs(flat).sum(), np.sqrt((flat**2).sum())])
