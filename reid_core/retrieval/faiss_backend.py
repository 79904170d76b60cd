"""faiss indexes of the kinds that the gallery index can filter and remove from, behind one interface.

Rows are known by labels. faiss numbers them itself, closing up after a removal (Flat, PQ, SQ) or never giving one up
(HNSW), or takes the numbers that it is given (IVF).
"""

from pathlib import Path
from typing import BinaryIO

import faiss
import numpy as np

from reid_core.utils.logging import get_logger

_KINDS = {
    "flat": (faiss.IndexFlat,),
    "codes": (faiss.IndexScalarQuantizer,),
    "pq": (faiss.IndexPQ,),
    "ivf": (faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ),
    "hnsw": (faiss.IndexHNSWFlat, faiss.IndexHNSWSQ, faiss.IndexHNSWPQ),
}
_SAMPLE_PER_CENTROID = 64  # rows drawn for the training; k-means gains little from more
_ADVISED_PER_CENTROID = 39  # faiss's own advice
_DECODED_BYTES = 64 * 2**20
_CELLS = 2**24  # of an over-long result list
_GPU_LIST = 2048  # longest result list on a GPU


class FaissBackend:
    """One faiss index of squared Euclidean distances. Arguments as those of `GalleryIndex`."""

    def __init__(self, width: int, factory: str, *, nprobe: int, ef_search: int, device: str | None):
        self.set_effort(nprobe, ef_search)
        if device not in (None, "cpu", "cuda"):
            raise ValueError(f"device must be 'cpu', 'cuda' or None, got {device!r}.")
        if device == "cuda" and not faiss.get_num_gpus():
            raise ValueError("device 'cuda' was asked for, but faiss sees no GPU; use device='cpu'.")
        self.factory = factory
        try:
            index = faiss.index_factory(width, factory, faiss.METRIC_L2)
        except RuntimeError as error:
            raise ValueError(
                f"faiss cannot make an index of width {width} by the factory string {factory!r}: "
                f"{str(error).rsplit(': ', 1)[-1].strip()}. Examples: Flat, IVF1024,Flat, OPQ32,IVF1024,PQ32, HNSW32, "
                "SQ8."
            ) from None
        self._set(index)
        self._use_gpu = device != "cpu" and faiss.get_num_gpus() > 0 and self.kind != "hnsw"

    def _set(self, index: faiss.Index) -> None:
        inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
        kinds = [kind for kind, classes in _KINDS.items() if isinstance(inner, classes)]
        if not kinds or "FastScan" in type(inner).__name__:
            raise ValueError(
                f"The factory string {self.factory!r} makes a {type(inner).__name__}, which cannot be filtered by "
                "camera and time; use one of the kinds Flat, IVF..., PQ..., SQ..., HNSW..., with a transform before it "
                "or not."
            )
        self._index, self._inner, self.kind, self._on_gpu = index, inner, kinds[0], None

    def set_effort(self, nprobe: int, ef_search: int) -> None:
        """Of the searches from now on; see `GalleryIndex`."""
        if nprobe < 1 or ef_search < 1:
            raise ValueError(f"nprobe and ef_search must be at least 1, got {nprobe} and {ef_search}.")
        self.nprobe, self.ef_search = nprobe, ef_search

    @property
    def is_trained(self) -> bool:
        return self._index.is_trained

    @property
    def is_exact(self) -> bool:
        """Whether it compares with all rows as they were given."""
        return self.kind == "flat" and self._inner is self._index

    @property
    def frees_labels(self) -> bool:
        """Whether labels are ours to choose, and may be used again after a removal."""
        return self.kind == "ivf"

    @property
    def stored(self) -> int:
        """Rows that faiss holds, removed ones of HNSW included."""
        return self._index.ntotal

    def train(self, features: np.ndarray) -> None:
        """Train on a sample of the rows, always the same one. Raises ValueError for too few."""
        if self.is_trained:
            return
        centroids = self._centroids()
        advised = _ADVISED_PER_CENTROID * centroids
        if len(features) < centroids:
            raise ValueError(
                f"{self.factory} needs at least {centroids} features to train on, better {advised}; got "
                f"{len(features)}. Pass more to `train`, choose fewer lists or bits, or use 'Flat'."
            )
        if centroids > 1 and len(features) < advised:
            get_logger().warning(
                f"{self.factory} is trained on {len(features)} features; {advised} or more would make it more accurate."
            )
        size = max(_SAMPLE_PER_CENTROID * centroids, 4 * self._index.d)
        if len(features) > size:
            chosen = np.random.default_rng(0).choice(len(features), size, replace=False)
            features = features[np.sort(chosen)]
        rotations = self._prepare_training()
        self._index.train(features)
        for rotation in rotations:
            rotation.pq = None

    def _prepare_training(self) -> list[faiss.OPQMatrix]:
        """Keep the training short, and faiss's warnings, hundreds of them, out; gives the rotations that were lent a
        quantizer for that."""
        for part in self._parts():
            if isinstance(part, faiss.IndexIVF):
                part.cp.min_points_per_centroid = 1
            if hasattr(part, "pq"):
                part.pq.cp.min_points_per_centroid = 1
                part.pq.cp.max_points_per_centroid = _SAMPLE_PER_CENTROID  # the sample may be larger, for the lists
            if hasattr(part, "do_polysemous_training"):
                part.do_polysemous_training = False  # slow, and of use only to a kind of search that we do not make
        rotations = [transform for transform in self._transforms() if isinstance(transform, faiss.OPQMatrix)]
        for rotation in rotations:
            rotation.pq = faiss.ProductQuantizer(rotation.d_out, rotation.M, 8)
            rotation.pq.cp.min_points_per_centroid = 1
            rotation.max_train_points = 256 * _SAMPLE_PER_CENTROID
        return rotations

    def _transforms(self) -> list[faiss.VectorTransform]:
        if self._inner is self._index:
            return []
        chain = self._index.chain
        return [faiss.downcast_VectorTransform(chain.at(place)) for place in range(chain.size())]

    def _centroids(self) -> int:
        """The largest number of centroids that one k-means of the training looks for."""
        needed = [256 if isinstance(transform, faiss.OPQMatrix) else 1 for transform in self._transforms()]
        for part in self._parts():
            needed.append(part.nlist if isinstance(part, faiss.IndexIVF) else 1)
            needed.append(part.pq.ksub if hasattr(part, "pq") else 1)
        return max(needed)

    def _parts(self) -> list[faiss.Index]:
        """The index and, of HNSW, what keeps its rows."""
        storage = getattr(self._inner, "storage", None)
        return [self._inner] if storage is None else [self._inner, faiss.downcast_index(storage)]

    def add(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Add rows. labels: those of the rows; but for IVF the next ones in sequence."""
        self._on_gpu = None
        if self.frees_labels:
            self._index.add_with_ids(features, labels)
        else:
            self._index.add(features)

    def remove(self, labels: np.ndarray) -> bool:
        """Remove rows, and say whether the labels behind them close up. HNSW keeps its rows."""
        self._on_gpu = None
        if self.kind == "hnsw" or not len(labels):
            return False
        chosen = np.zeros(int(labels.max()) + 1, dtype=bool)
        chosen[labels] = True
        self._inner.remove_ids(_selector(chosen))
        self._index.ntotal = self._inner.ntotal
        return not self.frees_labels

    def vectors(self, labels: np.ndarray) -> np.ndarray:
        """Rows as they are stored (decoded), float32 [N, width]; not of IVF."""
        return self._inner.reconstruct_batch(labels)

    def search(self, features: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows that are allowed: squared distances float32 and labels int64, both [Q, k].

        allowed: bool by label, None: all; at least k of them must be. Where the approximate search finds fewer than
        k, an exhaustive one over the codes takes its place.
        """
        features = self._transformed(features)
        if self._use_gpu or (self.kind == "pq" and allowed is not None):
            squared, labels = self._search_longer(features, k, allowed)
        else:
            squared, labels = self._search_filtered(self._inner, features, k, allowed)
        short = np.flatnonzero((labels < 0).any(axis=1))
        if len(short):
            if self.kind in ("pq", "hnsw"):
                squared[short], labels[short] = self._scan(features[short], k, allowed)
            else:
                found = self._search_filtered(self._inner, features[short], k, allowed, exhaustive=True)
                squared[short], labels[short] = found
        return squared, labels

    def _transformed(self, features: np.ndarray) -> np.ndarray:
        for transform in self._transforms():
            features = transform.apply(features)
        return features

    def _search_filtered(
        self, index: faiss.Index, features: np.ndarray, k: int, allowed: np.ndarray | None, exhaustive: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        options = {} if allowed is None else {"sel": _selector(allowed)}
        if self.kind == "ivf":
            nlist = self._inner.nlist
            parameters = faiss.SearchParametersIVF(nprobe=nlist if exhaustive else min(self.nprobe, nlist), **options)
        elif self.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(efSearch=max(self.ef_search, k), **options)
        else:
            parameters = faiss.SearchParameters(**options) if options else None
        return index.search(features, k, params=parameters)

    def _search_longer(self, features: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Where faiss has no filter (PQ, and on the GPU): longer lists, of which the allowed rows are kept."""
        share = 1.0 if allowed is None else allowed.sum() / len(allowed)
        length = min(k if allowed is None else int(1.5 * k / share) + 8, self.stored)
        index = self._inner
        if self._use_gpu and length <= _GPU_LIST:
            index = self._gpu_index()
        squared, labels = np.full((len(features), k), np.inf, np.float32), np.full((len(features), k), -1)
        step = max(1, _CELLS // length)
        for start in range(0, len(features), step):
            found_squared, found = self._search_filtered(index, features[start : start + step], length, None)
            kept = found >= 0
            if allowed is not None:
                kept &= allowed[found]
            order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
            found = np.where(kept, found, -1)
            squared[start : start + step] = np.take_along_axis(found_squared, order, axis=1)
            labels[start : start + step] = np.take_along_axis(found, order, axis=1)
        return squared, labels

    def _scan(self, features: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Distances to all allowed rows, decoded in blocks."""
        places = np.arange(self.stored) if allowed is None else np.flatnonzero(allowed)
        heap = faiss.ResultHeap(len(features), k)
        step = max(1, _DECODED_BYTES // (4 * self._inner.d))
        for start in range(0, len(places), step):
            block = places[start : start + step]
            squared, found = faiss.knn(features, self._inner.reconstruct_batch(block), min(k, len(block)))
            heap.add_result(squared, block[found])
        heap.finalize()
        return heap.D, heap.I

    def _gpu_index(self) -> faiss.Index:
        if self._on_gpu is None:
            self._on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, self._inner)
        return self._on_gpu

    def write(self, file: BinaryIO) -> None:
        """Write the index to an open file; not a memory-mapped one, of which faiss writes only where its data lie."""
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))

    def read(self, path: Path, memory_map: bool) -> None:
        """Take the index of a file, which must be whole (faiss can crash over a damaged one).

        Raises ValueError if it is of another kind or width than the factory string makes.
        """
        flags = 0
        if memory_map:
            flags = faiss.IO_FLAG_MMAP_IFC
            if self.kind == "ivf":
                flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
        width, kind = self._index.d, self.kind
        self._set(faiss.read_index(str(path), flags))
        if (self._index.d, self.kind) != (width, kind):
            raise ValueError(f"its data are of kind {self.kind} and width {self._index.d}, not {kind} and {width}")


def _selector(chosen: np.ndarray) -> faiss.IDSelector:
    """Rows by a mask, bool by label."""
    return faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
