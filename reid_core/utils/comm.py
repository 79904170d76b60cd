"""Facts and collectives of the process group; all of them work in a single process without one."""

import os
from typing import Any

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
    return torch.cat(_gather_parts(rows.detach().contiguous(), equal))


def all_gather_with_gradient(rows: Tensor, equal: bool = False) -> Tensor:
    """Rows of all processes in rank order, [sum of N_r, ...] float; a process may hold none.

    Backward, a process's rows get the sum over processes of their gradients. So where every process computes the same
    loss from all rows, averaging the parameters' gradients over processes, as data parallelism does, gives the
    gradient of that loss in a single process. All processes must take part, forward and backward, in the same order.

    equal: every process holds the same number of rows (then the device is not waited for).
    """
    if not is_distributed():
        return rows
    if torch.is_grad_enabled() and not rows.requires_grad:
        rows = rows.detach().requires_grad_()  # or this process alone would stay away from the sum in backward
    return _GatherWithGradient.apply(rows, equal)


class _GatherWithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, equal: bool) -> Tensor:
        parts = _gather_parts(rows.contiguous(), equal)
        before = sum(len(part) for part in parts[: rank()])
        ctx.own = slice(before, before + len(rows))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous().clone()  # the sum is formed in place, and autograd may keep the original
        dist.all_reduce(gradient)
        return gradient[ctx.own], None


def _gather_parts(rows: Tensor, equal: bool) -> list[Tensor]:
    """Each process's rows, in rank order."""
    if equal:
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows)
        return parts
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], dtype=torch.int64, device=rows.device))
    sizes = [int(count) for count in counts]
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    return [part[:size] for part, size in zip(_gather_parts(padded, equal=True), sizes, strict=True)]


def any_process(flag: bool, device: torch.device) -> bool:
    """True if the flag is set in at least one process."""
    if not is_distributed():
        return flag
    value = torch.tensor([int(flag)], device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of the same tensor over all processes; where it is equal everywhere it stays so to the last bit."""
    if not is_distributed():
        return values
    total = values.double()  # a sum of equal float32 numbers is exact in float64
    dist.all_reduce(total)
    return (total / world_size()).to(values.dtype)


def all_gather_objects(value: object) -> list:
    """The plain-data values of all processes in rank order."""
    if not is_distributed():
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values
