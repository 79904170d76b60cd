"""A gallery that is searched on one machine, over faiss: exact, or approximate by a factory string."""

import contextlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import faiss
import numpy as np
import torch
from torch import Tensor

from reid_core.retrieval.faiss_backend import FaissBackend
from reid_core.retrieval.gallery import GalleryFilter, Rows, SearchResult, distances_of, empty_result, exact_nearest
from reid_core.retrieval.gallery_files import GalleryIndexError, read_version, write_version
from reid_core.retrieval.searchable_gallery import SearchableGallery

_COLUMNS = np.dtype([("id", "<i8"), ("camid", "<i8"), ("timestamp", "<f8"), ("present", "?")])


class GalleryIndex(SearchableGallery):
    """A gallery on one machine; beside add, remove and search also train, save and load.

    width: of the features. factory: faiss's description of the index: "Flat" (exact), or an approximate one of the
    kinds IVF, PQ, SQ and HNSW, with a transform before it or not ("IVF1024,Flat", "OPQ64,IVF1024,PQ64", "SQ8",
    "HNSW32", "PCA128,Flat"). metric: "cosine" (features are scaled to unit length; distances 1 - cosine) or
    "euclidean". nprobe: lists that an IVF search visits; ef_search: length of the HNSW search's queue; more of either
    find more of the nearest and take longer. Both can be set at any time, on a loaded index too; `save` keeps them.
    device: "cpu", "cuda", or None: a GPU where faiss has one. threads: of faiss; None: as many as torch has.

    Results of "Flat" are exact: distances of float32 rows computed in float64, equal ones by id, whatever the device
    and the number of threads; the others keep faiss's float32, and cut equal distances at a list's end either way.
    All kinds return k images wherever k pass the filters.

    Removed images are gone from Flat, PQ, SQ and IVF; HNSW cannot give nodes up: they stay in its graph and memory,
    are no longer found, and their ids may be used again. Raises ValueError for arguments that do not fit.
    """

    place = "index"

    def __init__(
        self,
        width: int,
        factory: str = "Flat",
        metric: str = "cosine",
        *,
        nprobe: int = 16,
        ef_search: int = 64,
        device: str | None = None,
        threads: int | None = None,
    ):
        super().__init__(width, metric)
        self.factory, self.threads = factory, threads
        with self._faiss_threads():
            self._backend = FaissBackend(self.width, factory, nprobe=nprobe, ef_search=ef_search, device=device)
        self._columns = np.zeros(0, dtype=_COLUMNS)  # by faiss's label
        self._order = np.zeros(0, dtype=np.int64)  # labels of the images, by id
        self._source: Path | None = None  # of the memory-mapped data

    def __len__(self) -> int:
        return len(self._order)

    @property
    def ids(self) -> np.ndarray:
        return self._columns["id"][self._order]

    @property
    def nprobe(self) -> int:
        """Lists that an IVF search visits. Setting it below 1 raises ValueError."""
        return self._backend.nprobe

    @nprobe.setter
    def nprobe(self, lists: int) -> None:
        self._backend.set_effort(lists, self.ef_search)

    @property
    def ef_search(self) -> int:
        """Length of the HNSW search's queue. Setting it below 1 raises ValueError."""
        return self._backend.ef_search

    @ef_search.setter
    def ef_search(self, length: int) -> None:
        self._backend.set_effort(self.nprobe, length)

    @property
    def is_trained(self) -> bool:
        """Whether images can be added without training (Flat and HNSW need none)."""
        return self._backend.is_trained

    def train(self, features: np.ndarray | Tensor) -> None:
        """Learn lists and codes from a sample [N, D] that resembles the gallery. Flat and plain HNSW learn nothing.

        Raises ValueError for too few features, or once images have been added.
        """
        if len(self._columns):
            raise ValueError(f"The index holds {len(self)} images already; train it before the first add.")
        with self._faiss_threads():
            self._backend.train(self._prepare(features, "training"))

    def _add(self, features: np.ndarray, rows: Rows) -> None:
        own = self.ids
        self._refuse_known(np.intersect1d(rows.ids, own))
        self._own_memory()
        labels = self._free_labels(len(features))
        with self._faiss_threads():
            if not self.is_trained:
                self._backend.train(features)
            self._backend.add(features, labels)
        new = np.zeros(len(features), dtype=_COLUMNS)
        new["id"], new["camid"], new["timestamp"], new["present"] = *rows, True
        missing = labels.max() + 1 - len(self._columns)
        self._columns = np.concatenate([self._columns, np.zeros(max(missing, 0), dtype=_COLUMNS)])
        self._columns[labels] = new
        by_id = np.argsort(rows.ids)
        self._order = np.insert(self._order, np.searchsorted(own, rows.ids[by_id]), labels[by_id])

    def _remove(self, ids: np.ndarray) -> None:
        ids, own = np.sort(ids), self.ids
        self._refuse_unknown(np.setdiff1d(ids, own))
        self._own_memory()
        places = np.searchsorted(own, ids)
        labels = self._order[places]
        with self._faiss_threads():
            closes_up = self._backend.remove(labels)
        self._order = np.delete(self._order, places)
        self._columns["present"][labels] = False
        if closes_up:
            kept = self._columns["present"]
            self._order = (np.cumsum(kept) - 1)[self._order]
            self._columns = self._columns[kept]

    def _search(self, features: np.ndarray, k: int, camids: np.ndarray, common: GalleryFilter) -> SearchResult:
        result = empty_result(len(features), k)
        with self._faiss_threads():
            for camid in np.unique(camids):
                chosen = np.flatnonzero(camids == camid)
                self._search_group(features[chosen], chosen, k, common.without(camid), result)
        return result

    def save(self, folder: str | Path) -> None:
        """Write the index into `folder` (of its own), in place of what was saved there before.

        An interrupted save leaves the previous version. Raises GalleryIndexError if the disk refuses.
        """
        settings = {
            "width": self.width, "factory": self.factory, "metric": self.metric, "nprobe": self.nprobe,
            "ef_search": self.ef_search, "labels": len(self._columns), "images": len(self),
        }  # fmt: skip
        columns = io.BytesIO()
        np.lib.format.write_array(columns, self._columns, allow_pickle=False)
        write_version(
            Path(folder).expanduser(),
            settings,
            {"index": self._write_index, "rows": lambda file: file.write(columns.getvalue())},
        )

    def _write_index(self, file: BinaryIO) -> None:
        if self._source is None:
            self._backend.write(file)
            return
        self._check_source()
        with self._source.open("rb") as source:  # memory-mapped, hence unchanged
            shutil.copyfileobj(source, file)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        memory_map: bool = True,
        *,
        verify: bool = True,
        device: str | None = None,
        threads: int | None = None,
    ) -> "GalleryIndex":
        """A saved index. Sizes and (verify) SHA-256 are checked before anything parses the files.

        memory_map: vectors stay in the file, are read when searched and shared between processes; the first add or
        remove reads them into memory. verify=False saves reading the whole file once, and trusts it. On a GPU the
        vectors are copied there by the first search.
        Raises GalleryIndexError for a folder without an index and for missing, truncated or changed files.
        """
        settings, files = read_version(folder, verify)
        try:
            with files["rows"].open("rb") as file:
                columns = np.lib.format.read_array(file, allow_pickle=False)
            names = ("width", "factory", "metric", "nprobe", "ef_search")
            index = cls(**{name: settings[name] for name in names}, device=device, threads=threads)
            index._backend.read(files["index"], memory_map)
            if columns.dtype != _COLUMNS or settings["labels"] != len(columns):
                raise ValueError("its rows are of another kind or number")
            if index._backend.stored != (columns["present"].sum() if index._backend.frees_labels else len(columns)):
                raise ValueError("index and rows do not belong together")
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise GalleryIndexError(f"The gallery index {folder} cannot be read: {error}") from error
        index._columns, index._source = columns, files["index"] if memory_map else None
        present = np.flatnonzero(columns["present"])
        index._order = present[np.argsort(columns["id"][present])]
        return index

    def _search_group(
        self, features: np.ndarray, places: np.ndarray, k: int, chosen: GalleryFilter, result: SearchResult
    ) -> None:
        """Search with one filter; the hits go to the result's rows `places`."""
        columns = self._columns
        allowed = columns["present"].copy()
        if not chosen.passes_all:
            allowed &= chosen.mask(columns["camid"], columns["timestamp"])
        candidates = int(allowed.sum())
        k = min(k, candidates)
        if k == 0:
            return
        mask = None if candidates == self._backend.stored else allowed
        if self._backend.is_exact:
            squared, labels = exact_nearest(
                features, k, candidates,
                lambda queries, count: self._backend.search(features[queries], count, mask),
                self._backend.vectors, lambda labels: columns["id"][labels],
            )  # fmt: skip
        else:
            squared, labels = self._backend.search(features, k, mask)
            order = np.lexsort((columns["id"][labels], squared), axis=1)
            squared, labels = (np.take_along_axis(values, order, axis=1) for values in (squared, labels))
        hits = (places[:, None], np.arange(k))
        result.distances[hits] = distances_of(squared, self.metric)
        for name, values in (("id", result.ids), ("camid", result.camids), ("timestamp", result.timestamps)):
            values[hits] = columns[name][labels]

    def _free_labels(self, count: int) -> np.ndarray:
        """Labels for new images: those of removed ones where faiss lets us choose, then new ones."""
        free = np.flatnonzero(~self._columns["present"])[:count] if self._backend.frees_labels else np.empty(0, int)
        return np.concatenate([free, np.arange(len(self._columns), len(self._columns) + count - len(free))])

    def _own_memory(self) -> None:
        """Before a change: memory-mapped data are read-only."""
        if self._source is not None:
            self._check_source()
            self._backend.read(self._source, memory_map=False)
            self._source = None

    def _check_source(self) -> None:
        if not self._source.is_file():
            raise GalleryIndexError(
                f"{self._source} was replaced by a later save, so this memory-mapped index cannot be changed or saved; "
                "load the folder again."
            )

    @contextlib.contextmanager
    def _faiss_threads(self) -> Iterator[None]:
        """faiss takes all cores by default, also in one of several processes; torch's number is the user's choice."""
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(self.threads or torch.get_num_threads())
        try:
            yield
        finally:
            faiss.omp_set_num_threads(before)
