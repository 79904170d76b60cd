"""A million image records in a few blocks of memory: paths in one string of bytes, numbers in NumPy columns.

A Python list of a million records costs several hundred megabytes, and every worker process copies it slowly as
reference counts change (copy-on-write); these columns are never touched by reading.
"""

import os
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np

from reid_core.structures import ReIDImage


class PathColumn(Sequence[str]):
    """Paths of many files. `column[i]` is the full path, `column.relative(i)` the part below its root."""

    def __init__(self, root: str, relative: Iterable[str]):
        """root: folder that all paths start with, may be "". relative: paths below it, with '/' between parts.

        Raises ValueError for a path with a zero character.
        """
        paths = [*relative, ""]
        count = len(paths) - 1
        # Encoded at once, which is far faster than one by one; a zero byte, which no path holds, ends each path.
        self._text = os.fsencode("\0".join(paths))
        self._ends = np.flatnonzero(np.frombuffer(self._text, dtype=np.uint8) == 0)
        if len(self._ends) != count:
            raise ValueError(f"A path cannot hold a zero character, got {next(p for p in paths if chr(0) in p)!r}.")
        self._starts = np.zeros(count, dtype=np.int64)
        self._starts[1:] = self._ends[:-1] + 1
        self._roots = (root,)
        self._root_of = np.zeros(count, dtype=np.int16)

    @classmethod
    def concatenate(cls, columns: Sequence["PathColumn"]) -> "PathColumn":
        """The paths of all columns, one column after the other."""
        joined = cls("", [])
        offsets = np.cumsum([0, *(len(column._text) for column in columns)])
        firsts = np.cumsum([0, *(len(column._roots) for column in columns)])
        joined._text = b"".join(column._text for column in columns)
        joined._roots = tuple(root for column in columns for root in column._roots)
        places = list(zip(columns, offsets, firsts, strict=False))
        joined._starts = _join([column._starts + offset for column, offset, _ in places], np.int64)
        joined._ends = _join([column._ends + offset for column, offset, _ in places], np.int64)
        joined._root_of = _join([column._root_of + first for column, _, first in places], np.int16)
        return joined

    def select(self, positions: np.ndarray | slice) -> "PathColumn":
        """The paths at `positions`, in that order, over the same block of text."""
        chosen = PathColumn("", [])
        chosen._text, chosen._roots = self._text, self._roots
        chosen._starts, chosen._ends = self._starts[positions], self._ends[positions]
        chosen._root_of = self._root_of[positions]
        return chosen

    @property
    def nbytes(self) -> int:
        """Bytes that the columns occupy; a part of a column counts the whole text that it shares."""
        return len(self._text) + self._starts.nbytes + self._ends.nbytes + self._root_of.nbytes

    def relative(self, index: int) -> str:
        """The path below its root, the same on every machine."""
        return os.fsdecode(self._text[self._starts[index] : self._ends[index]])

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "PathColumn": ...
    def __getitem__(self, index: int | slice) -> "str | PathColumn":
        if isinstance(index, slice):
            return self.select(index)
        return os.path.join(self._roots[self._root_of[index]], self.relative(index))


class ImageTable(Sequence[ReIDImage]):
    """Records of a split: `table[i]` is a ReIDImage, `table[a:b]` a table; its columns are there for fast reading.

    paths: PathColumn. pids, camids, viewids: int64 arrays [N].
    """

    def __init__(self, paths: PathColumn, pids: np.ndarray, camids: np.ndarray, viewids: np.ndarray | None = None):
        """viewids: all 0 if not given. Raises ValueError if the columns differ in length."""
        viewids = np.zeros(len(paths), dtype=np.int64) if viewids is None else viewids
        self.paths = paths
        self.pids = np.ascontiguousarray(pids, dtype=np.int64)
        self.camids = np.ascontiguousarray(camids, dtype=np.int64)
        self.viewids = np.ascontiguousarray(viewids, dtype=np.int64)
        lengths = {name: len(getattr(self, name)) for name in ("paths", "pids", "camids", "viewids")}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of an image table must have one length, got {lengths}.")

    @classmethod
    def from_records(cls, records: Sequence[ReIDImage]) -> "ImageTable":
        """A table of the same records; a table is returned as it is."""
        if isinstance(records, ImageTable):
            return records
        numbers = np.array([(r.pid, r.camid, r.viewid) for r in records], dtype=np.int64).reshape(len(records), 3)
        return cls(PathColumn("", (r.path for r in records)), *numbers.T)

    @classmethod
    def concatenate(cls, tables: Sequence["ImageTable"]) -> "ImageTable":
        """The records of all tables, one table after the other; numbers are kept as they are."""
        return cls(
            PathColumn.concatenate([table.paths for table in tables]),
            *(_join([getattr(table, name) for table in tables], np.int64) for name in ("pids", "camids", "viewids")),
        )

    @property
    def nbytes(self) -> int:
        """Bytes that the columns occupy."""
        return self.paths.nbytes + self.pids.nbytes + self.camids.nbytes + self.viewids.nbytes

    def select(self, positions: np.ndarray | slice) -> "ImageTable":
        """The records at `positions`, in that order."""
        return ImageTable(
            self.paths.select(positions), self.pids[positions], self.camids[positions], self.viewids[positions]
        )

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> ReIDImage: ...
    @overload
    def __getitem__(self, index: slice) -> "ImageTable": ...
    def __getitem__(self, index: int | slice) -> "ReIDImage | ImageTable":
        if isinstance(index, slice):
            return self.select(index)
        return ReIDImage(self.paths[index], int(self.pids[index]), int(self.camids[index]), int(self.viewids[index]))


def _join(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype=dtype)
