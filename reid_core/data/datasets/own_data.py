"""What the readers of a user's own data share: rows of text become columns, with identities and cameras numbered."""

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reid_core.config import ConfigError
from reid_core.data.datasets.base import SPLITS, UNLABELLED, ReIDDataset, Splits
from reid_core.data.datasets.listing import examples, printable
from reid_core.data.image_table import ImageTable, PathColumn

KINDS = ("person", "vehicle")
_EMPTY = ("", "nan", "NaN")  # what programs write for no value
_NAMELESS = (*_EMPTY, "-1", "-1.0")  # the last is what they make of -1 in a column with a gap
_COLUMNS = {"pids": np.int32, "camids": np.int32, "viewids": np.int16, "splits": np.int8, "hashes": np.int64}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_VIEWPOINT = re.compile(r"[0-9]{1,4}")


class Rows(NamedTuple):
    """A block of images as their source has them, one entry an image, as text; "" where it says nothing.

    line: where an image stands ("line 7"), asked of those that are wrong. paths: below the dataset's folder, or
    absolute. camids, viewids, splits: None if the source has no such column.
    """

    line: Callable[[int], str]
    paths: Sequence[str]
    pids: Sequence[str]
    camids: Sequence[str] | None = None
    viewids: Sequence[str] | None = None
    splits: Sequence[str] | None = None


class OwnDataset(ReIDDataset):
    """A dataset that is named in the config as `Reader:path`, and has no published layout, counts or protocol.

    Identities are numbered by the rank of their names (whole numbers by value, anything else as text), over all
    splits; cameras likewise. pid_values, camid_values: these names, in the order of the numbers. An image without an
    identity, or with the name "-1", has pid -1: unlabelled in the train split, junk in the others. A split that the
    data do not have is empty. Where no cameras are known, `names_cameras` is False, and query images have camera 0,
    gallery images camera 1, so that the protocol leaves nothing out.

    A reader defines `read_rows` and, if the name is not the last part of the path, `name_of`.
    """

    def __init__(self, root: str, path: str, kind: str = "person"):
        """root: DATASETS.ROOT. path: below it, or absolute. kind: "person" or "vehicle".

        Raises FileNotFoundError if there is nothing at that path, ValueError for data that cannot be used.
        """
        if kind not in KINDS:
            raise ConfigError(f"DATASETS.OWN_DATA.KIND must be one of {', '.join(KINDS)}, got '{kind}'.")
        self.name, self.kind = self.name_of(path), kind
        self.root = Path(os.path.abspath(Path(root).expanduser()))
        self.location = Path(os.path.abspath(self.root / Path(path).expanduser()))
        if not self.location.exists():
            raise FileNotFoundError(
                f"{type(self).__name__}:{path}: {printable(self.location)} does not exist. The path is taken from "
                f"DATASETS.ROOT ({root}), unless it is absolute."
            )
        self.folder = self.location if self.location.is_dir() else self.location.parent
        gathered = _Gathered(str(self.folder), printable(self.location))
        self.read_rows(gathered.add)
        self.train, self.query, self.gallery = gathered.splits()
        self.pid_values, self.camid_values = gathered.pids.values, gathered.camids.values
        self.names_cameras = bool(self.camid_values)
        if not self.names_cameras:
            self.gallery.camids[:] = 1

    @classmethod
    def from_config(cls, cfg: Any, path: str) -> dict:
        return {"root": cfg.DATASETS.ROOT, "path": path, "kind": cfg.DATASETS.OWN_DATA.KIND}

    @classmethod
    def name_of(cls, path: str) -> str:
        """The dataset's name in tables, labels and checkpoints."""
        return Path(path).name

    def read_rows(self, add: Callable[[Rows], None]) -> None:
        """Call `add` with one block of images after the other; small blocks keep the memory low."""
        raise NotImplementedError(f"{type(self).__name__} must define read_rows().")

    def __str__(self) -> str:
        if self.names_cameras:
            return super().__str__()
        parts = [f"{name} {s.images} images of {s.identities} identities" for name, s in self.statistics().items()]
        return f"{self.name} ({self.kind}): {'; '.join(parts)}; cameras unknown"


def as_text(value: object) -> str:
    """A value of a file with types as it would stand in a text file; "" for none. A whole 7.0 is "7": columns of
    whole numbers with gaps are often stored so. Raises ValueError for what is neither text nor a finite number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value in (math.inf, -math.inf):
        raise ValueError(f"{value!r} is neither text nor a number")
    return str(value)


class _Names:
    """Numbers the distinct names of a column in the order of their appearance, at the end by rank."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = dict.fromkeys(_NAMELESS, UNLABELLED)
        self.values: tuple[str, ...] = ()

    def encode(self, names: Sequence[str]) -> np.ndarray:
        """int64 [N], -1 for no name."""
        codes, first = self._codes, len(_NAMELESS)
        numbers = (codes.setdefault(name.strip(), len(codes) - first) for name in names)
        return np.fromiter(numbers, dtype=np.int64, count=len(names))

    def rank(self, codes: np.ndarray) -> np.ndarray:
        """The ranks of encoded names, all of which have been seen; sets `values`."""
        names = [name for name in self._codes if name not in _NAMELESS]
        if all(map(_INTEGER.fullmatch, names)):
            names.sort(key=lambda name: (int(name), name))
        else:
            names.sort()
        ranks = np.empty(len(names) + 1, dtype=np.int32)
        ranks[-1] = UNLABELLED  # where code -1 points
        ranks[[self._codes[name] for name in names]] = np.arange(len(names))
        self.values = tuple(names)
        return ranks[codes]


class _Gathered:
    """Blocks of rows, checked and kept as columns; their text is dropped with the block."""

    def __init__(self, folder: str, source: str):
        self.folder, self.source = folder, source
        self.pids, self.camids = _Names(), _Names()
        self._paths: list[PathColumn] = []
        self._blocks: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
        self._unnamed_camera = ""

    def add(self, rows: Rows) -> None:
        """Raises ValueError that names the line and the value, or a few lines for a path that no system has."""
        empty = next((place for place, path in enumerate(rows.paths) if not path), None)
        if empty is not None:
            raise ValueError(f"{self.source}, {rows.line(empty)}: the path is empty.")
        count = len(rows.paths)
        none = np.full(count, -1, dtype=np.int64)
        camids = none if rows.camids is None else self.camids.encode(rows.camids)
        if (camids < 0).any() and not self._unnamed_camera:
            self._unnamed_camera = rows.line(int((camids < 0).argmax()))
        splits = none * 0 if rows.splits is None else self._split_numbers(rows)
        pids = self.pids.encode(rows.pids)
        lacking = [place for place in np.flatnonzero((pids < 0) & (splits > 0)) if rows.pids[place].strip() in _EMPTY]
        if lacking:
            raise ValueError(
                f"{self.source}, {rows.line(lacking[0])}: a {SPLITS[splits[lacking[0]]]} image needs an identity; only "
                "training images may go without. Give one that no query looks for an identity of its own, or -1 to "
                "have it ignored."
            )
        views = none * 0 if rows.viewids is None else self._view_numbers(rows)
        hashes = np.fromiter((hash(self._key(path)) for path in rows.paths), dtype=np.int64, count=count)
        for (name, dtype), column in zip(_COLUMNS.items(), (pids, camids, views, splits, hashes), strict=True):
            self._blocks[name].append(column.astype(dtype))
        try:
            self._paths.append(PathColumn(self.folder, rows.paths))
        except ValueError as error:
            raise ValueError(f"{self.source}, {rows.line(0)} or one of the next {count}: {error}") from None

    def splits(self) -> Splits:
        """The three tables. Raises ValueError for no image at all, an image listed twice, and cameras of a part."""
        if not any(len(block) for block in self._paths):
            raise ValueError(f"{self.source} holds no images.")
        paths = PathColumn.concatenate(self._paths)
        self._paths.clear()
        self._check_twice(paths, self._joined("hashes"))
        pids, camids = self.pids.rank(self._joined("pids")), self.camids.rank(self._joined("camids"))
        views, splits = self._joined("viewids"), self._joined("splits")
        if self.camids.values and self._unnamed_camera:
            raise ValueError(
                f"{self.source}: {int((camids < 0).sum())} of {len(camids)} images have no camera (the first in "
                f"{self._unnamed_camera}), the others have one. Name the camera of every image, or of none."
            )
        camids = np.maximum(camids, 0)
        chosen = (np.flatnonzero(splits == number) for number in range(len(SPLITS)))
        return Splits(*(ImageTable(paths.select(at), pids[at], camids[at], views[at]) for at in chosen))

    def _joined(self, name: str) -> np.ndarray:
        """A column of all blocks, which are given up."""
        return np.concatenate(self._blocks.pop(name))

    def _split_numbers(self, rows: Rows) -> np.ndarray:
        number_of = {name: number for number, name in enumerate(SPLITS)}
        numbers = [number_of.get(name.strip(), -1) for name in rows.splits]
        if -1 in numbers:
            place = numbers.index(-1)
            raise ValueError(
                f"{self.source}, {rows.line(place)}: the split must be one of {', '.join(SPLITS)}, got "
                f"'{printable(rows.splits[place])}'."
            )
        return np.array(numbers, dtype=np.int64)

    def _view_numbers(self, rows: Rows) -> np.ndarray:
        texts = [view.strip() or "0" for view in rows.viewids]
        place = next((place for place, text in enumerate(texts) if not _VIEWPOINT.fullmatch(text)), None)
        if place is not None:
            raise ValueError(
                f"{self.source}, {rows.line(place)}: the viewpoint must be a whole number counted from 0 (datasets "
                f"that are trained together share them), got '{printable(rows.viewids[place])}'."
            )
        return np.array([int(text) for text in texts], dtype=np.int64)

    def _key(self, path: str) -> str:
        """One text for all ways to write a path."""
        if ".." not in path and not path.startswith("/"):
            return os.path.normpath(path)
        return os.path.normpath(os.path.join(self.folder, path)).removeprefix(f"{self.folder}{os.sep}")

    def _check_twice(self, paths: PathColumn, hashes: np.ndarray) -> None:
        """By a hash of each path, so that a million of them need not be kept as text."""
        order = hashes.argsort(kind="stable")
        same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
        suspects = sorted({int(place) for at in same for place in order[at : at + 2]})
        first_at: dict[str, int] = {}
        twice = [
            paths.relative(place) for place in suspects if first_at.setdefault(self._key(paths[place]), place) != place
        ]
        if twice:
            raise ValueError(
                f"{self.source}: {len(twice)} images are listed more than once: {examples(twice)}. List each once."
            )
