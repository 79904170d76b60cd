"""Claim: exact scoring costs little more than the matrix product, a quarter of the sort's time, and hardly any memory.

Scores one set of random clustered features, each side in a process of its own that loads them from files:

* `evaluate`: reid_core.evaluation.evaluate, all queries; and the bare float32 product of the same features in blocks,
  on a quarter of the queries before it and a quarter after it, in the same process with the same threads;
* the sort-based way (full float32 matrix, argsort of every row, cumulative matches) on as many queries as fit into
  --dense-memory, and `evaluate` on those.

Prints times, peak memory (what comes on top of the imports and the loaded features) and ratios; the last line is JSON.
Linux only, for the memory.

    python benchmarks/evaluation.py                                               # MSMT17: 11659 x 82161 x 1280
    python benchmarks/evaluation.py --queries 3368 --gallery 15913                # Market-1501
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
from common import print_json

from reid_core.evaluation import evaluate

DENSE_BYTES = 22  # a pair: distance 4, its place 8, match 4, and what argsort and the comparison take on the way
PRODUCT_ROWS, PRODUCT_COLUMNS = 2048, 1024


def clustered_set(options: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """Unit features around one direction an identity, 15 cameras; the same for the same arguments.

    Noise differs between identities and between images (log-normal): some are hard, as in real sets. With the default
    noise, mAP and rank-1 at MSMT17's size are about those published for it (71 and 88).
    """
    generator = np.random.default_rng(0)
    identities = max(1, options.gallery // 27)  # as in MSMT17
    centres = generator.standard_normal((identities, options.width), dtype=np.float32)
    hardness = options.spread * generator.standard_normal(identities)
    arrays = []
    for count in (options.queries, options.gallery):
        pids = generator.integers(0, identities, count)
        features = generator.standard_normal((count, options.width), dtype=np.float32)
        noise = options.noise * np.exp(hardness[pids] + options.spread / 2 * generator.standard_normal(count))
        features *= noise.astype(np.float32)[:, None]
        features += centres[pids]
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        arrays.append((features, pids, generator.integers(0, 15, count)))
    return tuple(column for pair in zip(*arrays, strict=True) for column in pair)


def score_by_sorting(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids) -> dict[str, float]:
    """mAP and rank-1 the common way."""
    squares = (query**2).sum(1)[:, None] + (gallery**2).sum(1)[None, :]
    distances = torch.from_numpy(squares).addmm_(torch.from_numpy(query), torch.from_numpy(gallery).T, alpha=-2).numpy()
    order = np.argsort(distances, axis=1)
    matches = (gallery_pids[order] == query_pids[:, None]).astype(np.int32)
    precisions, firsts = [], []
    for row, found, pid, camid in zip(order, matches, query_pids, query_camids, strict=True):
        kept = found[(gallery_pids[row] != pid) | (gallery_camids[row] != camid)]
        if kept.any():
            cumulative = kept.cumsum()
            precision = cumulative / np.arange(1, len(kept) + 1)
            precisions.append((precision * kept).sum() / kept.sum())
            firsts.append(cumulative[0])
    return {"mAP": float(np.mean(precisions)), "rank1": float(np.mean(firsts))}


def score_streaming(*arrays: np.ndarray) -> dict[str, float]:
    results = evaluate(*arrays)
    return {"mAP": results.mAP, "rank1": float(results.cmc[0]), "mINP": results.mINP}


def product_seconds(query: np.ndarray, gallery: np.ndarray) -> float:
    """Seconds of the bare product, in blocks that stay in the processor's cache."""
    left, right = torch.from_numpy(query), torch.from_numpy(gallery)
    out = torch.empty(PRODUCT_ROWS * PRODUCT_COLUMNS)
    start = time.perf_counter()
    for rows in left.split(PRODUCT_ROWS):
        for columns in right.split(PRODUCT_COLUMNS):
            torch.mm(rows, columns.T, out=out[: len(rows) * len(columns)].view(len(rows), len(columns)))
    return time.perf_counter() - start


def peak_memory() -> float:
    """This program's peak so far, in MiB. ru_maxrss would count what the process was before its exec."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def measure(side: str, options: argparse.Namespace) -> dict[str, float]:
    """In this process: seconds, peak memory above the features' and scores of one side; the product's for "all"."""
    torch.set_num_threads(options.threads)
    arrays = [np.load(path) for path in sorted(options.data.iterdir())]
    if side != "all":
        arrays[::2] = [column[: options.dense_queries] for column in arrays[::2]]
    quarter = max(1, options.queries // 4)
    product_seconds(arrays[0][:64], arrays[1][:1024])  # threads start
    found = {"product_seconds": product_seconds(arrays[0][:quarter], arrays[1])} if side == "all" else {}
    before, start = peak_memory(), time.perf_counter()
    found |= score_by_sorting(*arrays) if side == "sort" else score_streaming(*arrays)
    found["seconds"] = time.perf_counter() - start
    found["extra_MiB"] = peak_memory() - before
    if side == "all":
        found["product_seconds"] += product_seconds(arrays[0][-quarter:], arrays[1])
        found["product_seconds"] *= options.queries / (2 * quarter)
    return found


def measure_apart(side: str, folder: str, dense_queries: int) -> dict[str, float]:
    """`measure` in a new process, so that its peak memory is its own."""
    own = ["--side", side, "--data", folder, "--dense-queries", str(dense_queries)]
    command = [sys.executable, __file__, *sys.argv[1:], *own]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(output.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=11659)
    parser.add_argument("--gallery", type=int, default=82161)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--noise", type=float, default=2.4, help="relative to the identities' spread: larger is harder")
    parser.add_argument("--spread", type=float, default=0.4, help="of the identities' noise: the deviation of its log")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dense-memory", type=float, default=10.0, help="GB for the sort; 0 leaves that side out")
    parser.add_argument("--side", choices=["all", "dense", "sort"], help=argparse.SUPPRESS)  # of a process started here
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dense-queries", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options)))
        return
    dense_queries = min(options.queries, int(options.dense_memory * 1e9 / DENSE_BYTES / options.gallery))
    with tempfile.TemporaryDirectory() as folder:
        for number, array in enumerate(clustered_set(options)):
            np.save(Path(folder) / f"{number}.npy", array)
        del array
        found = {"threads": options.threads, "dense_queries": dense_queries}
        for side in ("all", "dense", "sort") if dense_queries else ("all",):
            result = measure_apart(side, folder, dense_queries)
            found |= {f"{side}_{key}": value for key, value in result.items()}
            rows = options.queries if side == "all" else dense_queries
            print(f"{'sort' if side == 'sort' else 'evaluate':>8}, {rows} x {options.gallery} x {options.width}: "
                  f"{result['seconds']:7.2f} s, {result['extra_MiB']:6.0f} MiB above the features, "
                  f"mAP {100 * result['mAP']:.3f}, rank-1 {100 * result['rank1']:.3f}", flush=True)
    found["over_product"] = found["all_seconds"] / found["all_product_seconds"]
    print(f"bare product {found['all_product_seconds']:.2f} s; evaluate / product {found['over_product']:.2f}")
    if dense_queries:
        found["speedup"] = found["sort_seconds"] / found["dense_seconds"]
        found["memory_ratio"] = found["sort_extra_MiB"] / max(found["dense_extra_MiB"], 1)
        print(f"sort / evaluate: time {found['speedup']:.2f}, memory {found['memory_ratio']:.0f}")
    print_json(found)


if __name__ == "__main__":
    main()
