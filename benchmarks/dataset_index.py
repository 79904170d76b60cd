"""Claim: the index of a manifest of a million images, in any format, takes less than 300 MB, also while it is read.

Each format is read by a fresh process, whose memory above what it had after its imports is measured: the peak, and what
stays when the dataset is there. Files are not looked for (DATASETS.OWN_DATA.CHECK_FILES False). Linux only.

    python benchmarks/dataset_index.py
"""

import argparse
import csv
import gc
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
from common import print_json

from reid_core.data.datasets import Manifest

COLUMNS = ("path", "pid", "camid", "split")
IMAGES_OF_AN_IDENTITY = 20


def generate_rows(count: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of `count` images of count/20 identities by 50 cameras, four fifths of them to train on."""
    for number in range(count):
        identity, image = divmod(number, IMAGES_OF_AN_IDENTITY)
        path = f"site{number % 37:02d}/2026-03-{number % 28:02d}/camera{number % 50:02d}/{identity:06d}_{image:02d}.jpg"
        split = "train" if number < count * 4 // 5 else "gallery" if image else "query"
        yield path, f"person-{identity}", f"camera {number % 50}", split


def write_manifest(path: Path, count: int) -> None:
    """The rows, as the path's ending says."""
    if path.suffix == ".parquet":
        columns = zip(*generate_rows(count), strict=True)
        table = {name: list(column) for name, column in zip(COLUMNS, columns, strict=True)}
        pyarrow.parquet.write_table(pyarrow.table(table), path)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows([COLUMNS, *generate_rows(count)])
        else:
            file.writelines(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in generate_rows(count))


def memory(key: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) of this process in MB."""
    return int(re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6


def measure(path: Path) -> dict[str, float]:
    """Read the manifest in this process, which has done nothing else."""
    gc.collect()
    before, began = memory("VmRSS"), time.perf_counter()
    dataset = Manifest(str(path.parent), path.name, check_files=False)
    seconds, peak = time.perf_counter() - began, memory("VmHWM") - before
    gc.collect()
    images = len(dataset.train) + len(dataset.query) + len(dataset.gallery)
    return {"images": images, "seconds": seconds, "peak_MB": peak, "kept_MB": memory("VmRSS") - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--manifest", type=Path, help="measure this file alone, in this process")
    options = parser.parse_args()
    if options.manifest:
        print_json(measure(options.manifest))
        return
    results: dict[str, float] = {"images": options.images}
    with tempfile.TemporaryDirectory() as folder:
        for ending in ("csv", "jsonl", "parquet"):
            path = Path(folder) / f"crops.{ending}"
            write_manifest(path, options.images)
            command = [sys.executable, __file__, "--manifest", str(path)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = json.loads(output.splitlines()[-1])
            seconds, peak, kept = found["seconds"], found["peak_MB"], found["kept_MB"]
            print(f"{ending:>8}: {seconds:6.1f} s, peak {peak:5.0f} MB, kept {kept:5.0f} MB")
            results |= {f"{ending}_{key}": value for key, value in found.items() if key != "images"}
    print_json(results)


if __name__ == "__main__":
    main()
