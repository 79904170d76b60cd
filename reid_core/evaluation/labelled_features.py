"""Query and gallery features with their labels, from feature files made anywhere."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reid_core.data.feature_files import FEATURE, Column, open_features
from reid_core.data.image_table import ImageTable, PathColumn

_SIDES = ("query", "gallery")
_LABELS = ("path", "pid", "camid")


class LabelledFeatures(NamedTuple):
    """One side. features: float32 [N, D]. records: of the N images, path "" and camera 0 where the file has none; names
    of identities and cameras are numbered, -1 is unknown. columns: path, pid and camid, if there, as the file has them.
    """

    features: np.ndarray
    records: ImageTable
    columns: Mapping[str, Column]

    @property
    def names_cameras(self) -> bool:
        """Whether the camera of every image is known."""
        return "camid" in self.columns and -1 not in self.records.camids


def read_query_and_gallery(
    query: str | Path, gallery: str | Path, needs_cameras: bool = False
) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Both sides of feature files (see `open_features`) with a column `pid`, and if known `camid` and `path`.

    Of a file with a column `split` only the rows of its side count, so one file may be both. Relative paths begin at
    the file's folder; if the first of them is not there, but in the working folder, there. needs_cameras: every image
    must have its camera.

    Raises FileNotFoundError, and ValueError for files that do not fit.
    """
    paths = [Path(path).expanduser() for path in (query, gallery)]
    sides = [_read(path, side, needs_cameras) for path, side in zip(paths, _SIDES, strict=True)]
    features = [side.pop(FEATURE) for side in sides]
    pids = _numbered([side["pid"] for side in sides])
    camids = _numbered([side.get("camid", np.zeros(len(side["pid"]), dtype=np.int64)) for side in sides])
    files = [_located(path, side.get("path", [""] * len(side["pid"]))) for path, side in zip(paths, sides, strict=True)]
    tables = map(ImageTable, files, pids, camids)
    found = [LabelledFeatures(*parts) for parts in zip(features, tables, sides, strict=True)]
    return found[0], found[1]


def _read(path: Path, side: str, needs_cameras: bool) -> dict[str, Any]:
    """The columns of one side that are there."""
    table = open_features(path, ["pid", "camid"] if needs_cameras else ["pid"])
    columns: dict[str, Any] = table.read([name for name in (*_LABELS, "split", FEATURE) if name in table.types])
    if "split" in columns:
        kept = np.flatnonzero(np.array(columns.pop("split")) == side)
        if not len(kept):
            raise ValueError(f"{path}: no row has '{side}' in its column split.")
        columns = {name: _select(values, kept) for name, values in columns.items()}
    unknown = sum(name in ("", -1) for name in columns["camid"]) if needs_cameras else 0
    if unknown:
        raise ValueError(
            f"{path}: {unknown} {side} images have no camera, so no image can be left out by theirs: ask for no camera "
            "rule (--no-camera-rule)."
        )
    return columns


def _select(values: Column, rows: np.ndarray) -> Column:
    return [values[row] for row in rows] if isinstance(values, list) else values[rows]


def _numbered(columns: Sequence[Column]) -> list[np.ndarray]:
    """Whole numbers as they are; names, where a side has some, by one numbering of both sides, -1 for none."""
    if not any(isinstance(column, list) for column in columns):
        return list(columns)
    codes = {"": -1, "-1": -1}
    sides = [[str(value) for value in column] for column in columns]
    for name in sorted({name for side in sides for name in side} - codes.keys()):
        codes[name] = len(codes) - 2
    return [np.array([codes[name] for name in side], dtype=np.int64) for side in sides]


def _located(file: Path, paths: Sequence[str]) -> PathColumn:
    """The paths of a file's images, from where relative ones begin."""
    first = next(filter(None, paths), "")
    is_here = not os.path.exists(os.path.join(file.parent, first)) and os.path.exists(first)
    folder = "" if is_here else file.parent
    return PathColumn("", [os.path.join(folder, path) if path else "" for path in paths])
