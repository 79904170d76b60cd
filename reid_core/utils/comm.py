"""Facts and collectives of the process group; all of them work in a single process without one."""

import os

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    return dist.get_world_size() if is_distributed() else 1


def local_rank() -> int:
    """This process's number on its machine, as torchrun sets it."""
    return int(os.environ.get("LOCAL_RANK", 0))


def is_main() -> bool:
    """True in the process that writes files and logs."""
    return rank() == 0


def broadcast_object(value: object) -> object:
    """The main process's value in every process; only plain data, as it travels pickled between our own processes."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def all_gather_rows(rows: Tensor, equal: bool = False) -> Tensor:
    """Rows of all processes in rank order, [sum of N_r, ...]; no gradient.

    equal: every process holds the same number of rows (then the device is not waited for).
    """
    if not is_distributed():
        return rows.detach()
    rows = rows.detach().contiguous()
    if equal:
        gathered = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(gathered, rows)
        return torch.cat(gathered)
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([rows.shape[0]], dtype=torch.int64, device=rows.device))
    sizes = [int(count) for count in counts]
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: rows.shape[0]] = rows
    parts = all_gather_rows(padded, equal=True).split(max(sizes))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def any_process(flag: bool, device: torch.device) -> bool:
    """True if the flag is set in at least one process."""
    if not is_distributed():
        return flag
    value = torch.tensor([int(flag)], device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of the same tensor over all processes."""
    if not is_distributed():
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / world_size()


def all_gather_objects(value: object) -> list:
    """The plain-data values of all processes in rank order."""
    if not is_distributed():
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
