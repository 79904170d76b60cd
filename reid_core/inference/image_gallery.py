"""A gallery index with what is shown of its images: paths, identities, cameras by name."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock
from pyarrow import parquet

from reid_core.data.feature_files import COLUMNS, FEATURE, Column, FeatureTable
from reid_core.data.feature_files.table import METADATA_KEY
from reid_core.data.feature_files.text import metadata_from, metadata_text
from reid_core.retrieval import GalleryIndex
from reid_core.retrieval.gallery_files import GalleryIndexError
from reid_core.utils.file_io import atomic_file
from reid_core.utils.logging import get_logger

IMAGES = "images.parquet"
_LOCK = ".lock"
_TRAINING_ROWS = 200_000
_SHOWN = 5
_UNKNOWN = ("", "-1")
Hit = dict[str, Any]
"""One found image: rank (from 1), distance, id, and what is known of it."""


class ImageGallery:
    """A folder with a `GalleryIndex` and, in images.parquet beside it, a row for each of its ids.

    `GalleryIndex.load(folder)` reads the index alone. The table is written before images are added to the index, and
    after they have been removed from it: it never lacks one that a search finds.
    """

    def __init__(self, index: GalleryIndex, model: str = ""):
        """index: empty. model: fingerprint of the model whose features it is for, "" if that is not known."""
        self.index, self.model = index, model
        self.cameras: list[str] | None = None  # names, by number, where cameras have names that are no numbers
        self._images = pa.table({"id": pa.array([], type=pa.int64())})  # by id

    def __len__(self) -> int:
        return len(self.index)

    @staticmethod
    def lock(folder: str | Path) -> FileLock:
        """To be held from load to save: a gallery has one writer at a time. Raises TimeoutError if another holds it."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / _LOCK, timeout=0)

    def add(self, table: FeatureTable) -> int:
        """Add a feature file's images; returns their number. Ids are its column `id`, or new numbers.

        An index that has to be trained first is trained on rows taken evenly from the table.
        Raises ValueError for ids and paths that are there already, cameras with names among cameras with numbers, and
        what `GalleryIndex.add` refuses; a gallery that raised is not to be saved.
        """
        self._compare_models(table)
        labels = table.read([name for name in table.types if name != FEATURE])
        first = int(self.index.ids.max(initial=-1)) + 1
        ids = labels.setdefault("id", np.arange(first, first + table.count))
        self._refuse_known_paths(labels.get("path", []))
        camids = self._camera_numbers(labels["camid"]) if "camid" in labels else None
        times = labels.get("timestamp")
        if not self.index.is_trained:
            self.index.train(_sample(table))
        first = 0
        for block in table.blocks([FEATURE]):
            rows = slice(first, first + len(block[FEATURE]))
            self.index.add(
                np.asarray(block[FEATURE], dtype=np.float32),
                ids[rows],
                camids=None if camids is None else camids[rows],
                timestamps=None if times is None else times[rows],
            )
            first = rows.stop
        self._images = _joined(self._images, pa.table(labels))
        return table.count

    def remove(self, ids: Sequence[int]) -> None:
        """Raises ValueError, with nothing removed, for ids that are not there or twice."""
        self.index.remove(np.array(ids, dtype=np.int64))
        self._keep_indexed()

    def ids_of_paths(self, paths: Collection[str]) -> list[int]:
        """The ids of images, by path. Raises ValueError for paths that are not there."""
        known = self._column("path")
        found = self._images.filter(pc.is_in(known, pa.array(sorted(set(paths)), type=pa.string())))
        missing = sorted(set(paths) - set(found["path"].to_pylist() if found.num_rows else []))
        if missing:
            raise ValueError(f"{len(missing)} paths are not in the gallery: {', '.join(missing[:_SHOWN])}.")
        return found["id"].to_pylist()

    def search(
        self,
        features: np.ndarray,
        k: int,
        camids: Column | None = None,
        only_cameras: Collection[str] | None = None,
        exclude_cameras: Collection[str] | None = None,
        time_range: tuple[float | None, float | None] | None = None,
    ) -> list[list[Hit]]:
        """The k nearest of each query, nearest first; see `GalleryIndex.search`. Cameras are given by their names.

        camids: each query's own camera, whose images it does not get. One that the gallery does not have leaves none
        out. Raises ValueError for other cameras that it does not have.
        """
        found = self.index.search(
            features,
            k,
            camids=None if camids is None else self._query_cameras(camids),
            only_camids=None if only_cameras is None else self._numbers_of(only_cameras),
            exclude_camids=None if exclude_cameras is None else self._numbers_of(exclude_cameras),
            time_range=time_range,
        )
        ids = np.unique(found.ids[found.ids >= 0])
        rows = self._images.take(np.searchsorted(self._images["id"].to_numpy(), ids)).to_pylist()
        known = {
            row["id"]: {name: value for name, value in row.items() if value is not None and value == value}
            for row in rows
        }
        return [
            [
                {"rank": place + 1, "distance": float(distance), **known[int(number)]}
                for place, (distance, number) in enumerate(zip(distances, numbers, strict=True))
                if number >= 0
            ]
            for distances, numbers in zip(found.distances, found.ids, strict=True)
        ]

    def check_model(self, fingerprint: str) -> None:
        """Warn if features are of another model than the gallery's."""
        if self.model and fingerprint and fingerprint != self.model:
            get_logger().warning(
                "These features are of another model (%s...) than the gallery's (%s...), or were computed in another "
                "precision: distances between features of different weights mean nothing.",
                fingerprint[:12],
                self.model[:12],
            )

    def camera_counts(self) -> dict[str, int]:
        """Number of images by camera, in the order of the cameras."""
        return _counts(self._column("camid"))

    def num_identities(self) -> int:
        """Number of distinct identities that are known."""
        return len(_counts(self._column("pid")))

    def save(self, folder: str | Path) -> None:
        """Write it, in place of what was saved there before; see the class for what an interruption leaves."""
        path = Path(folder).expanduser() / IMAGES
        earlier = _read_images(path)[0] if path.is_file() else self._images
        gone = earlier.filter(pc.invert(pc.is_in(earlier["id"], self._images["id"])))
        self._write_images(path, _joined(self._images, gone))
        self.index.save(path.parent)
        if gone.num_rows:
            self._write_images(path, self._images)

    @classmethod
    def load(cls, folder: str | Path) -> "ImageGallery":
        """Raises GalleryIndexError for a folder without a gallery, and for damaged files."""
        gallery, path = cls(GalleryIndex.load(folder)), Path(folder).expanduser() / IMAGES
        try:
            gallery._images, metadata = _read_images(path)
            gallery.model, gallery.cameras = str(metadata.get("model", "")), metadata.get("cameras")
            gallery._keep_indexed()
            if gallery._images.num_rows != len(gallery.index):
                raise ValueError("it lacks images of the index")
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise GalleryIndexError(f"{path} is missing or damaged: {error}. Build the gallery anew.") from error
        return gallery

    def _keep_indexed(self) -> None:
        """Drop the rows of images that are not in the index."""
        self._images = self._images.filter(np.isin(self._images["id"].to_numpy(), self.index.ids))

    def _column(self, name: str) -> pa.ChunkedArray:
        """As text; without any row if there is no such column."""
        if name not in self._images.column_names:
            return pa.chunked_array([pa.nulls(self._images.num_rows, pa.string())])
        return self._images[name].cast(pa.string())

    def _compare_models(self, table: FeatureTable) -> None:
        model = str(table.metadata.get("model", ""))
        if not len(self.index):
            self.model = model
        self.check_model(model)

    def _refuse_known_paths(self, paths: list[str]) -> None:
        given = pa.array(paths, type=pa.string())
        known = given.filter(pc.is_in(given, self._column("path").combine_chunks()))
        twice = [entry["values"] for entry in given.value_counts().to_pylist() if entry["counts"] > 1]
        for some, where in ((known.to_pylist(), "are in the gallery already"), (twice, "are twice in the file")):
            if some:
                shown = ", ".join(some[:_SHOWN])
                raise ValueError(f"{len(some)} paths {where}: {shown}. Remove them first.")

    def _camera_numbers(self, camids: Column) -> np.ndarray:
        """The index's numbers for a file's cameras; new names get new numbers."""
        if self.cameras is None and not isinstance(camids, list):
            return camids
        if self.cameras is None and len(self.index):
            raise ValueError(
                f"The gallery's cameras are numbers, the file's have names: {', '.join(sorted(set(camids))[:_SHOWN])}."
            )
        names = self.cameras = self.cameras or []
        known = {name: number for number, name in enumerate(names)} | {"": -1}
        for name in _names(camids):
            if name not in known:
                known[name] = len(names)
                names.append(name)
        return np.array([known[name] for name in _names(camids)], dtype=np.int64)

    def _query_cameras(self, camids: Column) -> np.ndarray:
        if self.cameras is None:
            numbers = [int(name) if name.isdecimal() else -1 for name in _names(camids)]
        else:
            known = {name: number for number, name in enumerate(self.cameras)}
            numbers = [known.get(name, -1) for name in _names(camids)]
        return np.array(numbers, dtype=np.int64)

    def _numbers_of(self, cameras: Collection[str]) -> list[int]:
        known = self.camera_counts()
        for camera in cameras:
            if camera not in known:
                raise ValueError(f"The gallery has no camera '{camera}'; it has {', '.join(known) or 'none'}.")
        return self._query_cameras(list(cameras)).tolist()

    def _write_images(self, path: Path, images: pa.Table) -> None:
        metadata = {METADATA_KEY: metadata_text({"model": self.model, "cameras": self.cameras})}
        with atomic_file(path) as file:
            parquet.write_table(images.replace_schema_metadata(metadata), file)


def _read_images(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    table = parquet.read_table(path)
    metadata = metadata_from((table.schema.metadata or {}).get(METADATA_KEY.encode()), str(path))
    return table.replace_schema_metadata(None), metadata


def _joined(one: pa.Table, other: pa.Table) -> pa.Table:
    """The rows of both, by id; where a column has numbers in one and names in the other, all are names."""
    for name in set(one.column_names) & set(other.column_names):
        if one.schema.field(name).type != other.schema.field(name).type:
            one, other = (_as_text(table, name) for table in (one, other))
    both = pa.concat_tables([one, other], promote_options="default")
    names = [name for name in COLUMNS if name in both.column_names]
    return both.select(names).sort_by("id").combine_chunks()


def _as_text(table: pa.Table, name: str) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, name, table[name].cast(pa.string()))


def _counts(texts: pa.ChunkedArray) -> dict[str, int]:
    counts = {entry["values"]: entry["counts"] for entry in texts.drop_null().value_counts().to_pylist()}
    known = [name for name in counts if name not in _UNKNOWN]
    known.sort(key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))
    return {name: counts[name] for name in known}


def _sample(table: FeatureTable) -> np.ndarray:
    """Rows taken evenly, as many as training needs at most: float32 [N, D]."""
    step, parts, first = -(-table.count // _TRAINING_ROWS), [], 0
    for block in table.blocks([FEATURE]):
        features = np.asarray(block[FEATURE], dtype=np.float32)
        parts.append(features[-first % step :: step])
        first += len(features)
    return np.concatenate(parts)


def _names(camids: Column) -> Iterator[str]:
    for camid in camids if isinstance(camids, list) else camids.tolist():
        yield "" if camid == -1 else str(camid)
