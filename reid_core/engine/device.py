"""The device that this process computes on."""

import torch

from reid_core.config import ConfigError
from reid_core.utils import comm


def resolve_device(setting: str) -> torch.device:
    """The device of DEVICE for this process. Raises ConfigError for one that is not there."""
    if setting == "auto":
        setting = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(setting)
    except RuntimeError as error:
        raise ConfigError(f"DEVICE '{setting}' is no torch device: use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(f"DEVICE is '{setting}', but torch sees no CUDA device here; use DEVICE auto or cpu.")
        index = device.index if device.index is not None else comm.local_rank()
        if index >= torch.cuda.device_count():
            raise ConfigError(f"DEVICE cuda:{index}: there are {torch.cuda.device_count()} CUDA devices here.")
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return device
