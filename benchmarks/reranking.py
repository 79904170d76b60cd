"""Claim: k-reciprocal re-ranking and clustering need no matrix over all images, and are faster without one.

Re-ranks, and clusters, the same features twice, each side in a process of its own that loads them from files: by
`reid_core.retrieval`, and by the published algorithm on dense float32 matrices with a full argsort. Prints time and
peak memory of both (what comes on top of the imports and the loaded features), their ratios, how far the results are
apart, and between sizes the exponent of growth; the last line is JSON. Linux only, for the memory.

    python benchmarks/reranking.py                                       # four sizes up to 4000 images
    python benchmarks/reranking.py --sizes 19281 --tasks rerank          # Market-1501
    python benchmarks/reranking.py --sizes 93820 --query-share 0.1243 --tasks rerank --dense-up-to 0      # MSMT17
    python benchmarks/reranking.py --sizes 12936 32621 100000 --tasks cluster --dense-up-to 12936
"""

import argparse
import itertools
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import print_json
from sklearn.cluster import DBSCAN

from reid_core.retrieval import pseudo_labels, rerank, rerank_blocks

EPS, MIN_SAMPLES = 0.5, 4
TOP = 10  # nearest images that are kept of a query where the whole matrix is not asked for


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
    """Jaccard distances of the first `rows` images to all, float32, from dense [N, N] distances and their argsort."""
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


def rerank_densely(features: np.ndarray, queries: int, k1: int, k2: int) -> np.ndarray:
    distances = dense_distances(features)
    distances /= distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1)
    jaccard = dense_jaccard(distances, order, k1 + 1, round(k1 / 2) + 1, k2, queries)
    return 0.7 * jaccard[:, queries:] + np.float32(0.3) * distances[:queries, queries:]


def cluster_densely(features: np.ndarray, queries: int, k1: int, k2: int) -> np.ndarray:
    distances = dense_distances(features)
    order = np.argsort(distances, axis=1)
    jaccard = dense_jaccard(distances, order, k1, round(k1 / 2) + 1, k2, len(features)).clip(0)
    return DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="precomputed").fit(jaccard).labels_


def rerank_sparsely(features: np.ndarray, queries: int, k1: int, k2: int) -> np.ndarray:
    return rerank(features[:queries], features[queries:], k1, k2)


def rerank_to_lists(features: np.ndarray, queries: int, k1: int, k2: int) -> np.ndarray:
    """As `rerank_sparsely`, but each query's nearest images only: the matrix is never held."""
    blocks = rerank_blocks(features[:queries], features[queries:], k1, k2)
    return np.concatenate([np.argpartition(block, TOP, axis=1)[:, :TOP] for _, block in blocks])


def cluster_sparsely(features: np.ndarray, queries: int, k1: int, k2: int) -> np.ndarray:
    return pseudo_labels(features, EPS, MIN_SAMPLES, k1, k2)


SIDES = {
    "rerank": {"dense": rerank_densely, "sparse": rerank_sparsely, "lists": rerank_to_lists},
    "cluster": {"dense": cluster_densely, "sparse": cluster_sparsely},
}


def peak_memory() -> float:
    """This program's peak so far, in MiB. ru_maxrss would count what the process was before its exec."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def measure(task: str, side: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """In this process: seconds and peak memory above the features' of one side, which leaves its result in a file."""
    torch.set_num_threads(options.threads)
    features = np.load(folder / "features.npy")
    k1, k2 = options.rerank_k if task == "rerank" else options.cluster_k
    before, start = peak_memory(), time.perf_counter()
    result = SIDES[task][side](features, round(options.query_share * len(features)), k1, k2)
    seconds, extra = time.perf_counter() - start, peak_memory() - before
    np.save(folder / f"{task}_{side}.npy", result)
    return {"seconds": seconds, "extra_MiB": extra}


def measure_apart(task: str, side: str, folder: str) -> dict[str, float]:
    """`measure` in a new process, so that its peak memory is its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", task, side, folder]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    print(f"{task:>8} {side:>6}: {found['seconds']:9.2f} s, {found['extra_MiB']:9.0f} MiB above the features")
    return found


def difference(task: str, folder: Path) -> float:
    """Largest difference of re-ranked distances, or share of images with another label."""
    dense, sparse = (np.load(folder / f"{task}_{side}.npy") for side in ("dense", "sparse"))
    return float(np.abs(dense - sparse).max() if task == "rerank" else (dense != sparse).mean())


def measure_size(count: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "features.npy", synthetic_features(count, options.width, options.noise))
        for task in options.tasks:
            both = count <= options.dense_up_to
            found = measure_apart(task, "sparse" if both or task == "cluster" else "lists", folder)
            results[task] = dict(found)
            if both:
                dense = measure_apart(task, "dense", folder)
                results[task] |= {f"dense_{name}": value for name, value in dense.items()}
                results[task]["speedup"] = dense["seconds"] / found["seconds"]
                results[task]["memory_ratio"] = dense["extra_MiB"] / max(found["extra_MiB"], 1)
                results[task]["difference"] = difference(task, Path(folder))
                print(
                    f"{task:>8} dense / sparse: time {results[task]['speedup']:.2f}, memory "
                    f"{results[task]['memory_ratio']:.1f}; results differ by {results[task]['difference']:.1e}"
                )
    return results


def print_growth(results: dict[int, dict[str, dict[str, float]]], tasks: list[str]) -> None:
    sizes = sorted(results)
    for task in tasks:
        for small, large in itertools.pairwise(sizes):
            ratio = results[large][task]["seconds"] / results[small][task]["seconds"]
            exponent = math.log(ratio) / math.log(large / small)
            print(f"{task:>8}: {small} -> {large} images: {ratio:.2f} times the time, N^{exponent:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000, 2000, 4000], help="images in all")
    parser.add_argument("--tasks", nargs="+", choices=sorted(SIDES), default=["rerank", "cluster"])
    parser.add_argument("--dense-up-to", type=int, default=20000, help="larger sizes without the dense side")
    parser.add_argument("--query-share", type=float, default=0.1747, help="of the images; the rest is the gallery")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--noise", type=float, default=1.5, help="relative to the identities' spread: larger is harder")
    parser.add_argument("--rerank-k", type=int, nargs=2, default=(20, 6), metavar=("K1", "K2"))
    parser.add_argument("--cluster-k", type=int, nargs=2, default=(30, 6), metavar=("K1", "K2"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # of a process started by this one
    options = parser.parse_args()
    if options.measure:
        task, side, folder = options.measure
        print(json.dumps(measure(task, side, Path(folder), options)))
        return
    results = {}
    for count in options.sizes:
        print(f"{count} images of {options.width} numbers")
        results[count] = measure_size(count, options)
    print_growth(results, options.tasks)
    print_json({"threads": options.threads, "width": options.width, "sizes": results})


if __name__ == "__main__":
    main()
