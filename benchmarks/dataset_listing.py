"""Claim: a million images are listed and parsed in 10 s, and their table takes less than 300 MB, shared by workers.

Generated names in Market-1501's pattern, half of them training images, through the reader's own code: parsing, the
table, counts, the training set. Then real empty files: what listing them costs. The share of a worker process is what
it has copied (private memory) after it has looked up every path, measured where Linux tells it, for the table and for
a Python list of the same records.

    python benchmarks/dataset_listing.py
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from common import print_json

from reid_core.data import TrainingSet
from reid_core.data.datasets import Market1501, Splits
from reid_core.data.datasets.base import parse_names
from reid_core.data.datasets.listing import scan_folder


def generate_names(count: int, seed: int = 0) -> list[str]:
    """Sorted names of `count` images of count/50 identities by 6 cameras."""
    rng = np.random.default_rng(seed)
    pids, cameras = rng.integers(1, max(2, count // 50), count), rng.integers(1, 7, count)
    rows = zip(pids.tolist(), cameras.tolist(), range(count), strict=True)
    return sorted(f"{pid:04d}_c{camera}s{1 + frame % 6}_{frame:06d}_{frame % 9:02d}.jpg" for pid, camera, frame in rows)


def timed(function: Callable, *arguments: object) -> tuple[float, object]:
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def private_bytes() -> int:
    """Memory of this process that it shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def copied_by_a_worker(records: Sequence) -> int:
    """Bytes that a forked process copies while it reads every record once."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def read() -> None:
        before = private_bytes()
        for index in range(len(records)):
            records[index].path  # noqa: B018  (the look-up is what is measured)
        sender.send(private_bytes() - before)

    process = multiprocessing.get_context("fork").Process(target=read)
    process.start()
    copied = receiver.recv()
    process.join()
    return copied


class Generated(Market1501):
    """Market-1501 whose names come from a list instead of folders."""

    official = {}

    def __init__(self, root: str, names: list[str]):
        self.names = names
        super().__init__(root)

    def read_splits(self) -> Splits:
        half, tenth = len(self.names) // 2, len(self.names) // 10
        parts = (self.names[:half], self.names[half : half + tenth], self.names[half + tenth :])
        folders = ("bounding_box_train", "query", "bounding_box_test")
        tables = [
            parse_names(self.folder, folder, part, self.pattern, junk=(-1,))
            for folder, part in zip(folders, parts, strict=True)
        ]
        return Splits(*tables)


def list_real_files(count: int) -> tuple[float, float]:
    """Seconds to make `count` empty files, and to list them with the reader's code."""
    with tempfile.TemporaryDirectory() as root:
        began = time.perf_counter()
        for name in generate_names(count):
            (Path(root) / name).write_bytes(b"")
        made = time.perf_counter() - began
        seconds = min(timed(scan_folder, Path(root))[0] for _ in range(3))
    return made, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    arguments = parser.parse_args()
    names = generate_names(arguments.names)

    results: dict[str, float] = {"names": arguments.names, "files": arguments.files}
    results["parse_s"], table = timed(parse_names, Path("root"), "bounding_box_train", names, Market1501.pattern, (-1,))
    with tempfile.TemporaryDirectory() as root:
        for folder in ("bounding_box_train", "query", "bounding_box_test"):
            (Path(root) / "Market-1501" / folder).mkdir(parents=True)
        results["dataset_s"], dataset = timed(Generated, root, names)
    results["training_set_s"], _ = timed(TrainingSet, [dataset])
    results["table_MB"] = table.nbytes / 1e6
    results["make_files_s"], results["list_files_s"] = list_real_files(arguments.files)
    if sys.platform == "linux":
        results["worker_copies_of_table_MB"] = copied_by_a_worker(table) / 1e6
        records = list(table)
        results["worker_copies_of_list_MB"] = copied_by_a_worker(records) / 1e6
    for name, value in results.items():
        print(f"{name:28}{value:12,.2f}" if isinstance(value, float) else f"{name:28}{value:12,}")
    print_json(results)


if __name__ == "__main__":
    main()
