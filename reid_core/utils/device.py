"""The device that this process computes on."""

import torch

from reid_core.utils import comm


def resolve_device(setting: str) -> torch.device:
    """The device of a setting (DEVICE in a config) for this process: "auto", "cpu", "cuda", "cuda:1" ...

    Raises ValueError for one that is not there.
    """
    if setting == "auto":
        setting = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(setting)
    except RuntimeError as error:
        raise ValueError(f"DEVICE '{setting}' is no torch device: use auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"DEVICE is '{setting}', but torch sees no CUDA device here; use auto or cpu.")
        index = device.index if device.index is not None else comm.local_rank()
        if index >= torch.cuda.device_count():
            raise ValueError(f"DEVICE cuda:{index}: there are {torch.cuda.device_count()} CUDA devices here.")
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
    return device
