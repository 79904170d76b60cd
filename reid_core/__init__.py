"""A toolkit for object re-identification with CLIP.

    import reid_core as reid

    model = reid.load("checkpoint.pt")
    features = model.encode(["a.jpg", "b.jpg"])

What stands in `__all__` is imported when it is first asked for: `import reid_core` alone loads no torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["ReIDModel", "load", "push_model_folder", "save_model_folder"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("reid_core.inference"), name)
    raise AttributeError(f"module 'reid_core' has no attribute '{name}'; it has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
