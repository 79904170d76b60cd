"""What features are extracted of: the images of a folder or of a list, with what is known of each."""

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.data.datasets.listing import examples, printable, read_lines
from reid_core.data.datasets.manifest_files import Block, read_blocks
from reid_core.data.datasets.own_data import as_text
from reid_core.data.feature_files import Column
from reid_core.data.image_table import PathColumn
from reid_core.data.images import reason_of_refusal
from reid_core.inference.inputs import IMAGE_SUFFIXES

LABELS = ("pid", "camid", "viewid", "split", "timestamp")
MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
LIST_SUFFIX = ".txt"
_PATTERN_GROUPS = ("pid", "camid", "viewid")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


class ImageSource(ABC):
    """Rows of which each is an image to encode. Rows are named by their numbers, a rising int64 array."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def columns(self, rows: np.ndarray) -> dict[str, Column]:
        """What stands beside the features of these rows; asked for when they have been encoded."""

    @abstractmethod
    def images(self, rows: np.ndarray) -> Iterator[Any]:
        """The images as `ReIDModel.encode` takes them."""

    @abstractmethod
    def digest(self, rows: np.ndarray) -> str:
        """Changes when the rows, or the files that their images are in, do."""

    @abstractmethod
    def refused(self, rows: np.ndarray, num_threads: int) -> dict[int, str]:
        """Row number and reason of each image that cannot be encoded."""


class ImageFiles(ImageSource):
    """Image files, with labels."""

    def __init__(self, paths: PathColumn, labels: dict[str, "LabelColumn"] | None = None):
        """Raises ValueError without an image."""
        if not len(paths):
            raise ValueError("There are no images to extract features of.")
        self.paths = paths
        self.labels = {name: labels for name, labels in (labels or {}).items() if labels.is_known}

    def __len__(self) -> int:
        return len(self.paths)

    def columns(self, rows: np.ndarray) -> dict[str, Column]:
        paths = [printable(self.paths[row]) for row in rows]
        return {"path": paths} | {name: labels.values(rows) for name, labels in self.labels.items()}

    def images(self, rows: np.ndarray) -> Iterator[Path]:
        return (Path(self.paths[row]) for row in rows)

    def digest(self, rows: np.ndarray) -> str:
        digest = hashlib.sha256()
        for row in rows:
            path = self.paths[row]
            try:
                state = Path(path).stat()
                words = (path, state.st_size, state.st_mtime_ns)
            except OSError as error:
                words = (path, error.errno)
            digest.update(repr(words).encode())
        for name, labels in self.labels.items():
            digest.update(repr((name, list(labels.values(rows)))).encode())
        return digest.hexdigest()

    def refused(self, rows: np.ndarray, num_threads: int) -> dict[int, str]:
        with ThreadPoolExecutor(max(num_threads, 1)) as threads:
            reasons = threads.map(lambda row: reason_of_refusal(self.paths[row]), rows)
            return {int(row): reason for row, reason in zip(rows, reasons, strict=True) if reason}


class LabelColumn:
    """A label of every image, given as text block by block; "" is unknown.

    Whole numbers if all that are known are, else text; times are floating point. The text of each distinct label is
    held once.
    """

    def __init__(self, name: str):
        self.name = name
        self._codes: dict[str, int] = {}
        self._blocks: list[np.ndarray] = []
        self._names: np.ndarray | list[str] = []

    def add(self, texts: Sequence[str]) -> None:
        codes = self._codes
        numbers = (codes.setdefault(text.strip(), len(codes)) for text in texts)
        self._blocks.append(np.fromiter(numbers, dtype=np.int32, count=len(texts)))

    def close(self, source: str) -> None:
        """All blocks have come. Raises ValueError for a viewpoint or time that is no number."""
        self._blocks = [np.concatenate(self._blocks)] if self._blocks else [np.empty(0, np.int32)]
        names = list(self._codes)
        if self.name == "timestamp":
            self._names = np.array([self._number(name, source) for name in names], dtype=np.float64)
            return
        known = [name for name in names if name]
        whole = all(map(_INTEGER.fullmatch, known)) and len({int(name) for name in known}) == len(known)
        if self.name == "split" or (not whole and self.name != "viewid"):
            self._names = names
        elif not whole:
            wrong = next((name for name in known if not _INTEGER.fullmatch(name)), known[0])
            raise ValueError(f"{source}: a viewid must be a whole number, got '{printable(wrong)}'.")
        else:
            self._names = np.array([int(name or -1) for name in names], dtype=np.int64)

    @property
    def is_known(self) -> bool:
        """False where nothing is known of any image."""
        return any(self._codes)

    def values(self, rows: np.ndarray) -> Column:
        codes = self._blocks[0][rows]
        return [self._names[code] for code in codes] if isinstance(self._names, list) else self._names[codes]

    def _number(self, text: str, source: str) -> float:
        try:
            value = float(text or "nan")
        except ValueError:
            value = np.inf
        if np.isinf(value):
            raise ValueError(f"{source}: a {self.name} must be a number of seconds, got '{printable(text)}'.")
        return value


def open_images(source: str | Path, pattern: str = "") -> ImageFiles:
    """The images of a folder, sorted by path, or of a list, in its order.

    source: a folder (all images below it); a manifest (docs/own_data.md; only `path` is needed, `pid`, `camid`,
    `viewid`, `split` and `timestamp` are taken along); or a .txt file with a path on each line, relative to its folder.
    Paths are given as they are reached by `source`. pattern: for a folder or a .txt file: a regular expression with
    named groups `pid`, `camid`, `viewid` that is searched for in each path below the folder, or as it is listed.

    Raises FileNotFoundError if there is nothing, ValueError naming what does not fit.
    """
    source = Path(source).expanduser()
    if not source.exists():
        raise FileNotFoundError(f"There is neither a folder nor a list {source} (working folder: {Path.cwd()}).")
    suffix = source.suffix.lower()
    if source.is_dir():
        return _unlabelled(source, _walk(source), pattern, source)
    if suffix == LIST_SUFFIX:
        return _unlabelled(source.parent, [line for line in read_lines(source) if line], pattern, source)
    if suffix not in MANIFEST_SUFFIXES:
        endings = ", ".join((*MANIFEST_SUFFIXES, LIST_SUFFIX))
        raise ValueError(
            f"{source} is neither a folder nor a list of images: lists end in {endings}. (A video needs --boxes.)"
        )
    if pattern:
        raise ValueError(f"--pattern is for folders and .txt files; {source} has columns for the labels.")
    return _read_manifest(source)


def read_table(path: Path, required: Iterable[str], optional: Iterable[str]) -> Iterator[tuple[Block, dict]]:
    """Blocks of a manifest with the text of each wanted column that it has. Raises ValueError for a missing column."""
    wanted = [*required, *optional]
    for block in read_blocks(path, wanted):
        missing = [name for name in required if name not in block.columns]
        if missing:
            raise ValueError(
                f"{printable(path)} has no column '{missing[0]}'. Found: "
                f"{', '.join(map(printable, block.names)) or 'none'}. It needs {', '.join(required)} and may have "
                f"{', '.join(optional)}."
            )
        yield block, {name: _texts(path, block, name) for name in wanted if name in block.columns}


def _read_manifest(source: Path) -> ImageFiles:
    parts: list[PathColumn] = []
    labels = {name: LabelColumn(name) for name in LABELS}
    for block, texts in read_table(source, ("path",), LABELS):
        empty = next((place for place, path in enumerate(texts["path"]) if not path), None)
        if empty is not None:
            raise ValueError(f"{printable(source)}, {block.line(empty)}: the path is empty.")
        parts.append(PathColumn(str(source.parent), texts["path"]))
        for name, column in labels.items():  # a row of JSON may lack a key that another has
            column.add(texts.get(name, [""] * len(block)))
    for column in labels.values():
        column.close(printable(source))
    return ImageFiles(PathColumn.concatenate(parts), labels)


def _unlabelled(folder: Path, relative: list[str], pattern: str, source: Path) -> ImageFiles:
    if not relative:
        what = f"no file below it ends in {', '.join(IMAGE_SUFFIXES)}" if source.is_dir() else "it is empty"
        raise ValueError(f"{source} holds no image: {what}.")
    labels = {}
    compiled = _compile(pattern)
    if compiled is not None:
        matches = [compiled.search(path) for path in relative]
        unfit = [path for path, match in zip(relative, matches, strict=True) if match is None]
        if unfit:
            raise ValueError(
                f"{len(unfit)} of {len(relative)} images of {source} do not fit the pattern '{pattern}': "
                f"{examples(unfit)}."
            )
        for name in compiled.groupindex:
            labels[name] = LabelColumn(name)
            labels[name].add([match[name] or "" for match in matches])
            labels[name].close(str(source))
    return ImageFiles(PathColumn(str(folder), relative), labels)


def _compile(pattern: str) -> re.Pattern | None:
    if not pattern:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--pattern '{pattern}' is no regular expression: {error}.") from None
    if not compiled.groupindex or not set(compiled.groupindex) <= set(_PATTERN_GROUPS):
        raise ValueError(
            f"--pattern '{pattern}' must have named groups out of {', '.join(_PATTERN_GROUPS)}, such as "
            "(?P<pid>[0-9]+)_c(?P<camid>[0-9]+)."
        )
    return compiled


def _walk(folder: Path) -> list[str]:
    """What `list_images` finds, as text below the folder."""
    found = []
    for where, _, names in os.walk(folder):
        below = os.path.relpath(where, folder)
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                path = name if below == "." else f"{below}{os.sep}{name}"
                if (folder / path).is_file():
                    found.append(path)
    return sorted(found, key=lambda path: Path(path).parts)


def _texts(path: Path, block: Block, name: str) -> Sequence[str]:
    texts = []
    for place, value in enumerate(block.columns[name]):
        try:
            texts.append(as_text(value))
        except ValueError as error:
            raise ValueError(f"{printable(path)}, {block.line(place)}: the {name} cannot be used: {error}.") from None
    return texts
