"""Makes torchvision importable beside a torch build that its compiled library does not fit.

A CPU build of torch next to the package index's CUDA build of torchvision is a common pair on machines without a
GPU. The compiled library then cannot be loaded, and torchvision's Python part fails on import because it describes
two compiled operators that were never declared. The toolkit (and open_clip) uses only the Python part, the image
transforms, so declaring those two operators is enough; calling one of them still fails with torchvision's own error.
"""

import importlib.machinery
import importlib.util
from pathlib import Path

import torch

_DECLARATION = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")
_kept: list[torch.library.Library] = []  # a Library takes its declarations back when it is collected


def ensure_torchvision_imports() -> None:
    """Declare torchvision's operators if its compiled library cannot be loaded; harmless to call again."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or _kept:
        return
    folder = Path(spec.submodule_search_locations[0])
    compiled = [folder / f"_C{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    for path in compiled:
        if path.exists():
            try:
                torch.ops.load_library(str(path))
                return
            except OSError:
                break
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(_DECLARATION.format(name))
    _kept.append(library)


ensure_torchvision_imports()
