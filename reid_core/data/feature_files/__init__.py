"""Files of image features, Parquet, NPZ or HDF5 by their ending: written as a stream of blocks, and read as one."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import BinaryIO

from reid_core.data.feature_files.hdf5 import Hdf5Features, write_hdf5
from reid_core.data.feature_files.npz import NpzFeatures, write_npz
from reid_core.data.feature_files.parquet import ParquetFeatures, write_parquet
from reid_core.data.feature_files.table import (
    COLUMNS,
    FEATURE,
    Column,
    FeatureColumns,
    FeatureTable,
    check_size,
    require_columns,
)
from reid_core.utils.file_io import atomic_file

__all__ = ["COLUMNS", "FEATURE", "SUFFIXES", "Column", "FeatureColumns", "FeatureTable", "check_suffix"]
__all__ += ["open_features", "require_columns", "write_features"]

_READERS: dict[str, Callable[[Path], FeatureTable]] = {
    ".parquet": ParquetFeatures,
    ".npz": NpzFeatures,
    ".h5": Hdf5Features,
    ".hdf5": Hdf5Features,
}
_WRITERS: dict[str, Callable[[BinaryIO, FeatureTable], None]] = {
    ".parquet": write_parquet,
    ".npz": write_npz,
    ".h5": write_hdf5,
    ".hdf5": write_hdf5,
}
SUFFIXES = tuple(_READERS)


def open_features(path: str | Path, required: Collection[str] = ()) -> FeatureTable:
    """A feature file, opened: its columns are known, their values are read when they are asked for.

    required: columns that it must have beside `feature`. Nothing in the file is unpickled or followed to another file.
    Raises FileNotFoundError, ValueError naming the file and what is wrong with it (another ending, a missing column, a
    type or shape that does not fit, more data than its bytes can hold), ImportError for HDF5 without h5py.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no feature file {path} (working folder: {Path.cwd()}).")
    check_suffix(path)
    table = _READERS[path.suffix.lower()](path)
    require_columns(table, (FEATURE, *required), str(path))
    check_size(table, path)
    return table


def write_features(path: str | Path, table: FeatureTable) -> None:
    """Write a table as the format that the path's ending names; it appears whole or not at all.

    The same table gives the same bytes. The memory needed is that of one block, whatever the number of images.
    """
    path = Path(path).expanduser()
    check_suffix(path)
    with atomic_file(path) as file:
        _WRITERS[path.suffix.lower()](file, table)


def check_suffix(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Raise ValueError for a path that does not end as a feature file does."""
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path} is no feature file: its name must end in one of {', '.join(suffixes)}.")
