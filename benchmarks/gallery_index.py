"""Claim: a million features of 512 numbers are indexed and searched on this machine, exactly or approximately.

Builds a `GalleryIndex` over clustered synthetic features for each factory string, one after the other, and prints
build time (training and adding), queries a second, recall@10 against exact search, and bytes a vector (of the saved
index, ids, cameras and times included). The features lie in a temporary file and are read in blocks, so that beside
them only one index is in memory. The last line is JSON.

    python benchmarks/gallery_index.py                    # 1,000,000 x 512
    python benchmarks/gallery_index.py --gallery 50000
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import print_json

from reid_core.retrieval.gallery_index import GalleryIndex

K = 10
BLOCK = 50_000
IMAGES_PER_IDENTITY = 20


def clustered_block(centres: np.ndarray, identities: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """One feature for each of some identities, float32 [N, width], around the identity's centre."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((len(identities), centres.shape[1]), dtype=np.float32)
    features *= noise
    features += centres[identities]
    return features


def write_features(path: Path, options: argparse.Namespace) -> np.ndarray:
    """Write the gallery to a file; returns the queries, other images of the same identities."""
    generator = np.random.default_rng(0)
    count = max(1, options.gallery // IMAGES_PER_IDENTITY)
    # Identities are not spread evenly: they lie around fewer looks, as clothes and colours repeat.
    looks = generator.standard_normal((max(1, count // 50), options.width), dtype=np.float32)
    centres = looks[generator.integers(0, len(looks), count)]
    centres += generator.standard_normal((count, options.width), dtype=np.float32)
    features = np.lib.format.open_memmap(path, "w+", np.float32, (options.gallery, options.width))
    for start in range(0, options.gallery, BLOCK):
        identities = generator.integers(0, count, min(BLOCK, options.gallery - start))
        features[start : start + BLOCK] = clustered_block(centres, identities, options.noise, start + 1)
    features.flush()
    return clustered_block(centres, generator.integers(0, count, options.queries), options.noise, 0)


def blocks(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The gallery's features, a copy of each block in memory, and their ids."""
    features = np.load(path, mmap_mode="r")
    for start in range(0, len(features), BLOCK):
        block = np.array(features[start : start + BLOCK])
        yield block, np.arange(start, start + len(block))


def build(factory: str, path: Path, options: argparse.Namespace) -> tuple[GalleryIndex, float]:
    """An index of the gallery, and the seconds that training and adding took."""
    index = GalleryIndex(options.width, factory, nprobe=options.nprobe, ef_search=options.ef_search)
    seconds = 0.0
    if not index.is_trained:
        features = np.load(path, mmap_mode="r")
        sample = np.array(features[:: max(1, len(features) // options.training)])
        start = time.perf_counter()
        index.train(sample)
        seconds += time.perf_counter() - start
    for features, ids in blocks(path):
        start = time.perf_counter()
        index.add(features, ids, camids=ids % 15)
        seconds += time.perf_counter() - start
    return index, seconds


def queries_per_second(index: GalleryIndex, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """Ids found and the rate."""
    index.search(queries[:1], K)
    start = time.perf_counter()
    ids = index.search(queries, K).ids
    return ids, len(queries) / (time.perf_counter() - start)


def bytes_per_vector(index: GalleryIndex, folder: Path) -> float:
    """Of the saved index."""
    index.save(folder)
    return sum(path.stat().st_size for path in folder.iterdir()) / len(index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--noise", type=float, default=0.7, help="of an image around its identity, whose own is 1")
    parser.add_argument("--factories", nargs="+", help="three by default, sized after the gallery")
    parser.add_argument("--nprobe", type=int, default=16)
    parser.add_argument("--ef-search", type=int, default=64)
    parser.add_argument("--training", type=int, default=100_000, help="features to train on")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="for the temporary files: 4.1 GB by default")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lists = 2 ** round(np.log2(np.sqrt(options.gallery)))
    factories = options.factories or [f"IVF{lists},SQ8", f"IVF{lists},PQ64", "HNSW32"]
    results = {name: getattr(options, name) for name in ("gallery", "queries", "width", "threads", "nprobe")}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "features.npy"
        queries = write_features(path, options)
        exact = np.empty(0)
        print(f"{'factory':24} {'build s':>8} {'queries/s':>10} {'recall@10':>10} {'bytes/vector':>13}")
        for factory in ["Flat", *(name for name in factories if name != "Flat")]:
            index, seconds = build(factory, path, options)
            ids, rate = queries_per_second(index, queries)
            exact = ids if factory == "Flat" else exact
            recall = np.mean([len(set(x) & set(y)) / K for x, y in zip(ids.tolist(), exact.tolist(), strict=True)])
            size = bytes_per_vector(index, Path(folder) / "index")
            print(f"{factory:24} {seconds:8.1f} {rate:10.1f} {recall:10.3f} {size:13.1f}", flush=True)
            results[factory] = {
                "build_s": round(seconds, 2), "queries_per_s": round(rate, 1), "recall_at_10": round(float(recall), 4),
                "bytes_per_vector": round(size, 1),
            }  # fmt: skip
            del index
    print_json(results)


if __name__ == "__main__":
    main()
