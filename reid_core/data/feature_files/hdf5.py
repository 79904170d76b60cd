"""Feature files as HDF5: one dataset a column. Links, and data that lie in other files, are not followed."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from reid_core.data.feature_files.table import (
    FEATURE,
    METADATA_KEY,
    TEXT,
    WHOLE,
    Column,
    FeatureTable,
    array_name,
    as_column,
    canonical_names,
    check_types,
    type_of_kind,
)
from reid_core.data.feature_files.text import metadata_from, metadata_text


class Hdf5Features(FeatureTable):
    """An HDF5 file; raises ValueError for one that cannot be read or holds other types or shapes."""

    def __init__(self, path: Path):
        self.path, self.source = path, str(path)
        h5py = _h5py(self.source)
        try:
            with h5py.File(path, "r") as file:
                self.found = sorted(file)
                self._own = canonical_names(self.found, self.source)
                datasets = {name: self._dataset(h5py, file, own) for name, own in self._own.items()}
                self.types = {name: self._type(h5py, name, dataset) for name, dataset in datasets.items()}
                self.metadata = metadata_from(_text_attribute(file, METADATA_KEY), self.source)
                self.count, self.width = datasets[FEATURE].shape if FEATURE in datasets else (0, 0)
                half = FEATURE in datasets and datasets[FEATURE].dtype == np.float16
                self.dtype = np.dtype(np.float16 if half else np.float32)
                for name, dataset in datasets.items():
                    self._check_length(name, len(dataset))
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"{self.source} is not readable as HDF5: {error}") from error
        check_types(self, self.source)

    def blocks(self, names: Collection[str]) -> Iterator[dict[str, Column]]:
        h5py = _h5py(self.source)
        try:
            with h5py.File(self.path, "r") as file:
                for first in range(0, self.count, self.block_rows):
                    rows = slice(first, min(first + self.block_rows, self.count))
                    yield {name: self._column(name, file[self._own[name]], rows) for name in names}
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{self.source} is not readable as HDF5: {error}") from error

    def _dataset(self, h5py: ModuleType, file: Any, own: str) -> Any:
        if not isinstance(file.get(own, getlink=True), h5py.HardLink):
            raise ValueError(f"{self.source}: '{own}' is a link to data elsewhere, which is not followed.")
        dataset = file[own]
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise ValueError(f"{self.source}: '{own}' must be a dataset with its data in this file.")
        return dataset

    def _type(self, h5py: ModuleType, name: str, dataset: Any) -> str:
        axes = 2 if name == FEATURE else 1
        if dataset.ndim != axes:
            layout = "a matrix [images, width]" if name == FEATURE else "one value an image"
            raise ValueError(
                f"{self.source}: the column '{self._own[name]}' must be {layout}, found shape {list(dataset.shape)}."
            )
        found = TEXT if h5py.check_string_dtype(dataset.dtype) else type_of_kind(name, dataset.dtype.kind)
        if found is None:
            raise ValueError(
                f"{self.source}: the column '{self._own[name]}' has the type {dataset.dtype}, which is not read: plain "
                "numbers and texts are."
            )
        return found

    def _check_length(self, name: str, length: int) -> None:
        if length != self.count and FEATURE in self._own:
            raise ValueError(
                f"{self.source}: the column '{self._own[name]}' has {length} values, there are {self.count} features: "
                "one for each."
            )

    def _column(self, name: str, dataset: Any, rows: slice) -> Column:
        values = dataset[rows]
        if name == FEATURE:
            return values.astype(self.dtype, copy=False)
        if self.types[name] == TEXT:
            values = [value.decode("utf-8", "backslashreplace") for value in values.tolist()]
        return as_column(name, self.types[name], values, self.source)


def write_hdf5(file: BinaryIO, table: FeatureTable) -> None:
    """Raises ImportError without h5py."""
    h5py = _h5py("An HDF5 file")
    with os.fdopen(os.dup(file.fileno()), "r+b") as both, h5py.File(both, "w") as out:  # HDF5 reads what it wrote
        out.attrs[METADATA_KEY] = metadata_text(table.metadata)
        for name, kind in table.types.items():
            shape = (table.count, table.width) if name == FEATURE else (table.count,)
            dtype = table.dtype if name == FEATURE else _dtype(h5py, kind)
            out.create_dataset(array_name(name), shape, dtype=dtype, track_times=False)
        first = 0
        for block in table.blocks(list(table.types)):
            rows = slice(first, first + len(block[FEATURE]))
            for name, values in block.items():
                out[array_name(name)][rows] = values
            first = rows.stop


def _dtype(h5py: ModuleType, kind: str) -> Any:
    if kind == TEXT:
        return h5py.string_dtype()
    return np.int64 if kind == WHOLE else np.float64


def _text_attribute(file: Any, name: str) -> str | None:
    value = file.attrs.get(name)
    return value if isinstance(value, str) else None


def _h5py(source: str) -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f'{source} needs h5py, which is not installed: pip install "reid-core[hdf5]", or use .parquet or .npz.'
        ) from error
    return h5py
