"""Claim: scoring needs neither the distance matrix nor its sort, and is no slower without them.

Scores one set of features twice, each side in a process of its own that loads them from files: by
`reid_core.evaluation.evaluate`, and the plain way (full float32 matrix, argsort of every row, a loop over the
queries). Prints time and peak memory of both (what comes on top of the imports and the loaded features), and their
ratios; the last line is JSON. Linux only, for the memory.

    python benchmarks/ranking.py                                                 # 2000 x 10000 x 512
    python benchmarks/ranking.py --queries 11659 --gallery 82161 --width 1280    # the size of MSMT17
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from reid_core.evaluation import evaluate


def synthetic_set(queries: int, gallery: int, width: int, identities: int, noise: float) -> tuple[np.ndarray, ...]:
    """Unit features around one direction an identity, 15 cameras; the same for the same arguments."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((identities, width), dtype=np.float32)
    arrays = []
    for count in (queries, gallery):
        pids = np.sort(generator.integers(0, identities, count))
        features = generator.standard_normal((count, width), dtype=np.float32)
        features *= noise
        features += centres[pids]
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        arrays.append((features, pids, generator.integers(0, 15, count)))
    return tuple(column for pair in zip(*arrays, strict=True) for column in pair)


def score_plainly(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids) -> tuple[float, float]:
    """mAP and rank-1 the common way."""
    distances = (query**2).sum(1)[:, None] + (gallery**2).sum(1)[None, :] - 2 * query @ gallery.T
    order = np.argsort(distances, axis=1)
    precisions, firsts = [], []
    for row, pid, camid in zip(order, query_pids, query_camids, strict=True):
        kept = row[(gallery_pids[row] != pid) | (gallery_camids[row] != camid)]
        ranks = np.flatnonzero(gallery_pids[kept] == pid) + 1
        if len(ranks):
            precisions.append((np.arange(1, len(ranks) + 1) / ranks).mean())
            firsts.append(ranks[0] == 1)
    return float(np.mean(precisions)), float(np.mean(firsts))


def score_streaming(*arrays: np.ndarray) -> tuple[float, float]:
    results = evaluate(*arrays)
    return results.mAP, float(results.cmc[0])


SIDES = {"plain": score_plainly, "streaming": score_streaming}


def peak_memory() -> float:
    """This program's peak so far, in MiB. ru_maxrss would count what the process was before its exec."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def measure(side: str, options: argparse.Namespace) -> dict[str, float]:
    """In this process: seconds, peak memory above the features', mAP and rank-1 of one side."""
    torch.set_num_threads(options.threads)
    arrays = [np.load(path) for path in sorted(options.data.iterdir())]
    before = peak_memory()
    start = time.perf_counter()
    mean_precision, rank1 = SIDES[side](*arrays)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "extra_MiB": peak_memory() - before, "mAP": mean_precision, "rank1": rank1}


def measure_apart(side: str, folder: str) -> dict[str, float]:
    """`measure` in a new process, so that its peak memory is its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--data", folder]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--gallery", type=int, default=10000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--identities", type=int, default=0, help="0: one for 27 gallery images, as in MSMT17")
    parser.add_argument("--noise", type=float, default=3.0, help="relative to the identities' spread: larger is harder")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", choices=sorted(SIDES), help="leave the other side out (the plain one may not fit)")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)  # of a process started by this one
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.identities = options.identities or max(1, options.gallery // 27)
    if options.side:
        print(json.dumps(measure(options.side, options)))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        arrays = synthetic_set(options.queries, options.gallery, options.width, options.identities, options.noise)
        for number, array in enumerate(arrays):
            np.save(Path(folder) / f"{number}.npy", array)
        del arrays
        for side in [options.only] if options.only else SIDES:
            results[side] = found = measure_apart(side, folder)
            print(f"{side:>10}: {found['seconds']:8.2f} s, {found['extra_MiB']:9.0f} MiB above the features, "
                  f"mAP {100 * found['mAP']:.3f}, rank-1 {100 * found['rank1']:.3f}")
    if not options.only:
        plain, streaming = results["plain"], results["streaming"]
        results["speedup"] = plain["seconds"] / streaming["seconds"]
        results["memory_ratio"] = plain["extra_MiB"] / max(streaming["extra_MiB"], 1)
        print(f"plain / streaming: time {results['speedup']:.2f}, memory {results['memory_ratio']:.1f}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
