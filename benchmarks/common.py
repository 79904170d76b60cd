"""What the benchmarks share: timing on a machine that others use too, the machine's matrix rate, the JSON line."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def best_times(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Shortest time of each function in seconds, after one call that is not counted.

    The functions take turns, so that a slow spell of the machine does not fall on one of them; the shortest time is
    the one least disturbed by other processes.
    """
    best = {name: float("inf") for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            synchronize()
            start = time.perf_counter()
            function()
            synchronize()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def synchronize() -> None:
    """Wait for the accelerator, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_rate(dtype: torch.dtype, device: torch.device | str = "cpu", repeats: int = 5) -> float:
    """FLOP/s of torch.mm on its best of several shapes: what a program made of matrix products could reach at most."""
    shapes = [(2048, 2048, 2048), (4096, 1024, 4096), (2064, 768, 3072), (2064, 3072, 768)]
    products, operations = {}, {}
    for rows, inner, columns in shapes:
        left = torch.randn(rows, inner, device=device).to(dtype)
        right = torch.randn(columns, inner, device=device).to(dtype)
        name = f"{rows}x{inner}x{columns}"
        products[name] = lambda left=left, right=right: torch.mm(left, right.T)
        operations[name] = 2 * rows * inner * columns
    return max(operations[name] / seconds for name, seconds in best_times(products, repeats).items())


def print_json(results: Mapping[str, Any]) -> None:
    """The results as one line, the last that a benchmark prints."""
    print(json.dumps({key: round(value, 4) if isinstance(value, float) else value for key, value in results.items()}))
