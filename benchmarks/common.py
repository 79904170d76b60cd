"""What the benchmarks share: timing on a machine that others use too, the machine's matrix rate, the JSON line; and a
dense side and a sparse side of one task, each measured in a process of its own, at growing numbers of images."""

import argparse
import itertools
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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


# Of features: the sides of a task, and what they share.

Side = Callable[[np.ndarray], np.ndarray]  # features [N, D] -> a result that the other side's can be compared with


def synthetic_features(count: int, width: int, noise: float) -> np.ndarray:
    """Unit features around one direction an identity of 26 images, as in Market-1501, in random order."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((max(1, count // 26), width), dtype=np.float32)
    features = generator.standard_normal((count, width), dtype=np.float32)
    features *= noise
    features += centres[generator.integers(0, len(centres), count)]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


def dense_jaccard(distances: np.ndarray, order: np.ndarray, length: int, half: int, k2: int, rows: int) -> np.ndarray:
    """The published algorithm: Jaccard distances of the first `rows` images to all, float32, from dense [N, N]
    distances and their argsort."""
    count = len(distances)

    def reciprocal(image: int, k: int) -> np.ndarray:
        ahead = order[image, :k]
        return ahead[(order[ahead, :k] == image).any(axis=1)]

    codes = np.zeros((count, count), dtype=np.float32)
    for image in range(count):
        own = reciprocal(image, length)
        hood = [own]
        for member in own:
            other = reciprocal(member, half)
            if len(np.intersect1d(other, own)) > 2 / 3 * len(other):
                hood.append(other)
        hood = np.unique(np.concatenate(hood))
        weights = np.exp(-distances[image, hood])
        codes[image, hood] = weights / weights.sum()
    if k2 > 1:
        expanded = np.empty_like(codes)
        for image in range(count):
            expanded[image] = codes[order[image, :k2]].mean(axis=0)
        codes = expanded
    holders = [np.flatnonzero(codes[:, column]) for column in range(count)]
    found = np.empty((rows, count), dtype=np.float32)
    for image in range(rows):
        shared = np.zeros(count, dtype=np.float32)
        for column in np.flatnonzero(codes[image]):
            others = holders[column]
            shared[others] += np.minimum(codes[image, column], codes[others, column])
        found[image] = 1 - shared / (2 - shared)
    return found


def dense_distances(features: np.ndarray) -> np.ndarray:
    norms = (features**2).sum(axis=1)
    return norms[:, None] + norms[None, :] - 2 * features @ features.T


def sides_parser(description: str, sizes: Sequence[int], dense_up_to: int) -> argparse.ArgumentParser:
    """The options of a benchmark that calls `compare_sides`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(sizes), help="images in all")
    parser.add_argument("--dense-up-to", type=int, default=dense_up_to, help="larger sizes without the dense side")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--noise", type=float, default=1.5, help="relative to the identities' spread: larger is harder")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)  # of a process started by this one
    return parser


def compare_sides(
    options: argparse.Namespace,
    sides: Mapping[str, Side],
    difference: Callable[[np.ndarray, np.ndarray], float],
    alone: str = "sparse",
) -> None:
    """The whole benchmark: both sides at each size, their ratios, the growth between sizes, the JSON line.

    sides: "dense" and "sparse", and `alone`, which is measured instead where the dense side is left out. difference:
    of the results of dense and sparse.
    """
    if options.measure:
        print(json.dumps(_measure(sides, *options.measure, options.threads)))
        return
    results = {}
    for count in options.sizes:
        print(f"{count} images of {options.width} numbers")
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            np.save(folder / "features.npy", synthetic_features(count, options.width, options.noise))
            if count > options.dense_up_to:
                results[count] = _measure_apart(alone, folder)
                continue
            results[count] = found = _measure_apart("sparse", folder)
            dense = _measure_apart("dense", folder)
            found |= {f"dense_{name}": value for name, value in dense.items()}
            found["time_ratio"] = dense["seconds"] / found["seconds"]
            found["memory_ratio"] = dense["extra_MiB"] / max(found["extra_MiB"], 1)
            found["difference"] = difference(*(np.load(folder / f"{side}.npy") for side in ("dense", "sparse")))
            ratios = f"time {found['time_ratio']:.2f}, memory {found['memory_ratio']:.1f}"
            print(f"dense / sparse: {ratios}; results differ by {found['difference']:.1e}")
    growth = _growth(results)
    print_json({"threads": options.threads, "width": options.width, "sizes": results, "growth": growth})


def _measure(sides: Mapping[str, Side], side: str, folder: str, threads: int) -> dict[str, float]:
    """In this process: seconds and peak memory above the features' of one side, which leaves its result in a file."""
    torch.set_num_threads(threads)
    features = np.load(Path(folder) / "features.npy")
    before, start = peak_memory(), time.perf_counter()
    result = sides[side](features)
    seconds, extra = time.perf_counter() - start, peak_memory() - before
    np.save(Path(folder) / f"{side}.npy", result)
    return {"seconds": seconds, "extra_MiB": extra}


def _measure_apart(side: str, folder: Path) -> dict[str, float]:
    """`_measure` in a new process of the same script, so that its peak memory is its own."""
    command = [sys.executable, *sys.argv, "--measure", side, str(folder)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    print(f"{side:>6}: {found['seconds']:9.2f} s, {found['extra_MiB']:9.0f} MiB above the features")
    return found


def _growth(results: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Exponents of N by which the time of our side grows between neighbouring sizes; printed, too."""
    exponents = {}
    for small, large in itertools.pairwise(sorted(results)):
        ratio = results[large]["seconds"] / results[small]["seconds"]
        exponents[f"{small}-{large}"] = math.log(ratio) / math.log(large / small)
        print(f"{small} -> {large} images: {ratio:.2f} times the time, N^{exponents[f'{small}-{large}']:.2f}")
    return exponents


def peak_memory() -> float:
    """This program's peak so far, in MiB. ru_maxrss would count what the process was before its exec."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
