"""Scalars of the run: collected as tensors in the step, read from the device only when somebody looks."""

from collections.abc import Mapping

import torch
from torch import Tensor


class MetricBuffer:
    """Collects scalars by name; `read` gives their means since the last call and empties it.

    Tensors are kept detached and unread, so that collecting never waits for the device.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor | float]] = {}

    def put(self, scalars: Mapping[str, Tensor | float]) -> None:
        for name, value in scalars.items():
            self._values.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)

    def read(self) -> dict[str, float]:
        """Means by name since the last call; one transfer from the device."""
        names, means = list(self._values), []
        for values in self._values.values():
            tensors = [value for value in values if isinstance(value, Tensor)]
            if tensors:
                means.append(torch.stack([tensor.float() for tensor in tensors]).mean())
            else:
                means.append(torch.tensor(sum(values) / len(values), dtype=torch.float64))
        self._values.clear()
        on_device = [mean for mean in means if mean.device.type != "cpu"]
        moved = iter(torch.stack(on_device).tolist() if on_device else [])
        return {
            name: next(moved) if mean.device.type != "cpu" else float(mean)
            for name, mean in zip(names, means, strict=True)
        }
