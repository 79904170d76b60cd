"""What every feature file is to those that read or write one: named columns, a matrix among them, in blocks of rows.

`feature` is floating point [N, D]; the others have one value an image, and any of them may be missing:

path, split          text
pid, camid, track    whole numbers (-1: unknown), or text ("": unknown)
id, frame, viewid    whole numbers
x, y, w, h           a box in pixels of its frame: left, top, width, height
timestamp            seconds, NaN: unknown
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Column: TypeAlias = np.ndarray | list[str]
"""Values of a column: int64 or float64 [N], a list of text, or of `feature` float16 or float32 [N, D]."""

FEATURE = "feature"
TEXT, WHOLE, REAL = "text", "whole numbers", "numbers"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": (WHOLE,),
    "path": (TEXT,),
    "frame": (WHOLE,),
    **dict.fromkeys(("x", "y", "w", "h"), (REAL,)),
    **dict.fromkeys(("track", "pid", "camid"), (WHOLE, TEXT)),
    "viewid": (WHOLE,),
    "split": (TEXT,),
    "timestamp": (REAL,),
    FEATURE: (REAL,),
}
"""Name -> the types that it may have. A file's other columns are not read."""

_PLURALS = {name: f"{name}s" for name in COLUMNS if len(name) > 1}
_ALIASES = {plural: name for name, plural in _PLURALS.items()}
_EXPANSION = 64  # of a file's bytes to the features in it: far more than compression gains on real ones
_SMALL = 2**20
_BLOCK_BYTES = 2**24
METADATA_KEY = "reid_core"


class FeatureTable(ABC):
    """Columns of features and labels that are read in blocks of rows.

    found: names of all columns, as the source has them. types: TEXT, WHOLE or REAL of each column that can be read, by
    its name in COLUMNS. count: rows. width: of the features. dtype: of the features as they are read. metadata: plain
    values.
    """

    found: Sequence[str]
    types: Mapping[str, str]
    count: int
    width: int
    dtype: np.dtype
    metadata: Mapping[str, Any]

    @abstractmethod
    def blocks(self, names: Collection[str]) -> Iterator[dict[str, Column]]:
        """The columns `names` of some rows after the other, in order; at least one row each."""

    def read(self, names: Collection[str]) -> dict[str, Column]:
        """The columns whole; features are float32."""
        columns: dict[str, Any] = {name: [] for name in names if name != FEATURE}
        if FEATURE in names:
            columns[FEATURE] = np.empty((self.count, self.width), dtype=np.float32)
        first = 0
        for block in self.blocks(names):
            for name, values in block.items():
                if name == FEATURE:
                    columns[name][first : first + len(values)] = values
                else:
                    columns[name].extend(values) if self.types[name] == TEXT else columns[name].append(values)
            first += len(next(iter(block.values())))
        for name in columns:
            if name != FEATURE and self.types[name] != TEXT:
                dtype = np.int64 if self.types[name] == WHOLE else np.float64
                columns[name] = np.concatenate([np.empty(0, dtype), *columns[name]])
        return columns

    @property
    def block_rows(self) -> int:
        """Rows of a block of reasonable size."""
        return max(1, min(4096, _BLOCK_BYTES // (4 * max(self.width, 1))))


class FeatureColumns(FeatureTable):
    """A table in memory."""

    def __init__(self, columns: Mapping[str, Column], metadata: Mapping[str, Any] | None = None):
        """columns: of one length, with `feature` [N, D]."""
        self._columns, self.metadata = dict(columns), dict(metadata or {})
        self.found = list(columns)
        self.types = {name: _type_of(values) for name, values in columns.items()}
        self.count, self.width = columns[FEATURE].shape
        self.dtype = columns[FEATURE].dtype

    def blocks(self, names: Collection[str]) -> Iterator[dict[str, Column]]:
        for first in range(0, self.count, self.block_rows):
            yield {name: self._columns[name][first : first + self.block_rows] for name in names}


def array_name(name: str) -> str:
    """A column's name where files hold arrays: the field's `features`, `pids`, `camids`."""
    return _PLURALS.get(name, name)


def canonical_names(found: Sequence[str], source: str) -> dict[str, str]:
    """Name in COLUMNS -> the source's own name of it, singular or plural. Raises ValueError where both are there."""
    names: dict[str, str] = {}
    for own in found:
        name = _ALIASES.get(own, own)
        if name not in COLUMNS:
            continue
        if name in names:
            raise ValueError(f"{source} has both a column '{names[name]}' and a column '{own}': remove one of them.")
        names[name] = own
    return {name: names[name] for name in COLUMNS if name in names}


def require_columns(table: FeatureTable, names: Collection[str], source: str) -> None:
    """Raise ValueError, naming what was found, if the table lacks one of the columns."""
    for name in names:
        if name not in table.types:
            near = difflib.get_close_matches(name, table.found, n=1, cutoff=0.5)
            hint = f" Is it '{near[0]}'? Rename it then." if near else ""
            raise ValueError(
                f"{source} has no column '{name}'.{hint} Found: {', '.join(map(str, table.found)) or 'none'}."
            )


def check_types(table: FeatureTable, source: str) -> None:
    """Raise ValueError for a column of a type that it cannot have."""
    for name, found in table.types.items():
        allowed = COLUMNS[name]
        if found not in allowed:
            expected = "floating-point numbers" if name == FEATURE else " or ".join(allowed)
            raise ValueError(f"{source}: the column '{name}' must hold {expected}, found {found}.")


def check_size(table: FeatureTable, path: Path) -> None:
    """Raise ValueError for a file without rows, or with more features than its bytes can hold."""
    if not table.count or not table.width:
        raise ValueError(f"{path} holds no features: its matrix is [{table.count}, {table.width}].")
    held, claimed = path.stat().st_size, table.count * table.width * table.dtype.itemsize
    if claimed > _EXPANSION * held + _SMALL:
        raise ValueError(
            f"{path} was refused: it says that it holds features [{table.count}, {table.width}], {claimed} bytes, but "
            f"has only {held} bytes itself. It is damaged, or made to fill the memory."
        )


def as_column(name: str, kind: str, values: np.ndarray | list, source: str) -> Column:
    """Values read from a file as a column of the type `kind` (not the features).

    Whole numbers that a file holds as floating point are taken as such, NaN as -1. Raises ValueError for values that
    do not fit.
    """
    if kind == TEXT:
        return ["" if value is None else str(value) for value in values]
    array = np.asarray(values)
    if kind == REAL:
        return array.astype(np.float64)
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), -1, array)
        if not (np.isfinite(array) & (np.abs(array) < 2**53)).all() or (array != np.rint(array)).any():
            raise ValueError(f"{source}: the column '{name}' must hold whole numbers, found others.")
    if array.dtype == np.uint64 and len(array) and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{source}: the column '{name}' holds {array.max()}, more than an int64 does.")
    return array.astype(np.int64)


def type_of_kind(name: str, kind: str) -> str | None:
    """The column type of a NumPy dtype's kind, None for one that cannot be read."""
    if kind in "iu":
        return REAL if WHOLE not in COLUMNS[name] and name != FEATURE else WHOLE
    if kind == "f":
        return REAL if REAL in COLUMNS[name] else WHOLE
    return TEXT if kind in "US" else None


def _type_of(values: Column) -> str:
    if isinstance(values, list):
        return TEXT
    return WHOLE if values.dtype.kind in "iu" else REAL
