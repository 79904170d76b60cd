"""Copies of batches to a CUDA device, made while it computes the step before."""

from collections.abc import Callable

import torch
from torch import Tensor


class DeviceCopies:
    """Copies tensors to a CUDA device on a stream of its own.

    The training process queues a step's work and asks for the next batch long before the device is done; on the
    stream of that work the copy would wait for its end, on its own it runs beside it.
    """

    def __init__(self, device: torch.device):
        self.device, self._stream = device, torch.cuda.Stream(device)

    def __call__(self, tensor: Tensor) -> Tensor:
        """The tensor on the device, for use on its current stream. Of pinned memory the copy does not block."""
        with torch.cuda.stream(self._stream):
            copy = tensor.to(self.device, non_blocking=True)
        user = torch.cuda.current_stream(self.device)
        user.wait_stream(self._stream)
        copy.record_stream(user)  # or its memory could be used for a later copy while a step still reads it
        return copy


def copies_to(device: torch.device | None) -> Callable[[Tensor], Tensor]:
    """DeviceCopies to a CUDA device; for any other, and for None, what leaves a tensor where it is."""
    return DeviceCopies(device) if device is not None and device.type == "cuda" else _unchanged


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor
