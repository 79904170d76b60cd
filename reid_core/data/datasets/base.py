"""What every dataset reader shares: finding the folder, listing and parsing names, checking counts."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reid_core.data.image_table import ImageTable, PathColumn
from reid_core.utils.logging import get_logger

SPLITS = ("train", "query", "gallery")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_CLUTTER = ("thumbs.db", "desktop.ini")  # left by file managers; Market-1501's own archive holds a Thumbs.db
_EXAMPLES = 5


class Splits(NamedTuple):
    """The three parts of a dataset."""

    train: ImageTable
    query: ImageTable
    gallery: ImageTable


class SplitStatistics(NamedTuple):
    """Counts of one split."""

    images: int
    identities: int
    cameras: int


class ReIDDataset:
    """A dataset: `train`, `query` and `gallery` are sequences of ReIDImage over columns (ImageTable).

    A reader is a subclass that sets the class attributes and writes `read_splits`::

        @DATASET_REGISTRY.register()
        class MyDataset(ReIDDataset):
            kind = "person"
            folders = ("MyDataset",)
            layout = ("train/*.jpg", "query/*.jpg", "gallery/*.jpg")

            def read_splits(self) -> Splits: ...

    Identity numbers are those of the files and mean nothing across splits; labels for training are made by
    TrainingSet. Cameras and viewpoints count from 0 and mean the same in all splits.
    """

    kind: str = "person"  # "person" or "vehicle"
    folders: tuple[str, ...] = ()  # names that the dataset's own folder has in use; the first is the published one
    layout: tuple[str, ...] = ()  # what lies in it, as shown when it is not found; see `_required`
    names_cameras: bool = True  # False: its camids only serve the protocol, and tell nothing about the picture
    official: Mapping[str, Mapping[str, int]] = {}  # split -> {"images" | "identities" | "cameras": published count}
    evaluator: str = ""  # the registered evaluator of its protocol, "": the usual one (TEST.EVALUATOR may name another)

    def __init__(self, root: str):
        """root: the folder in which the dataset's own folder lies.

        Raises FileNotFoundError, showing what was expected and what was found, if the layout is not there, and
        ValueError if a file's name cannot be parsed or a split is empty. Counts that differ from the published
        ones are a warning in the log.
        """
        self.name = type(self).__name__
        self.root = Path(os.path.abspath(Path(root).expanduser()))
        self.folder = self._find_folder()
        splits = self.read_splits()
        self.train, self.query, self.gallery = splits
        for split, table in zip(SPLITS, splits, strict=True):
            if not len(table):
                raise ValueError(f"{self.name}: the {split} split is empty in {self.folder}.\n{self._expected()}")
        self._warn_about_counts()

    @classmethod
    def from_config(cls, cfg: Any) -> dict:
        return {"root": cfg.DATASETS.ROOT}

    def read_splits(self) -> Splits:
        """Read `self.folder`, which holds what `layout` says."""
        raise NotImplementedError(f"{type(self).__name__} must define read_splits().")

    @property
    def num_cameras(self) -> int:
        """Cameras over all splits: the largest camid + 1."""
        return 1 + max(int(getattr(self, split).camids.max()) for split in SPLITS)

    @property
    def num_views(self) -> int:
        """Viewpoints over all splits: the largest viewid + 1."""
        return 1 + max(int(getattr(self, split).viewids.max()) for split in SPLITS)

    def statistics(self) -> dict[str, SplitStatistics]:
        """Images, identities and cameras of each split."""
        tables = {split: getattr(self, split) for split in SPLITS}
        return {
            split: SplitStatistics(len(table), len(np.unique(table.pids)), len(np.unique(table.camids)))
            for split, table in tables.items()
        }

    def __str__(self) -> str:
        parts = [
            f"{split} {s.images} images of {s.identities} identities by {s.cameras} cameras"
            for split, s in self.statistics().items()
        ]
        return f"{self.name} ({self.kind}): {'; '.join(parts)}"

    def _find_folder(self) -> Path:
        for name in self.folders:
            if (self.root / name).is_dir():
                self._require_layout(self.root / name)
                return self.root / name
        above = " DATASETS.ROOT is the folder above the dataset's own." if self.root.name in self.folders else ""
        raise FileNotFoundError(
            f"{self.name} is not in {self.root}: no folder {' or '.join(map(repr, self.folders))}.{above}\n"
            f"{self._expected()}\n{_found(self.root)}"
        )

    def _require_layout(self, folder: Path) -> None:
        missing = [entry for entry in self.layout if not (folder / _required(entry)).exists()]
        if missing:
            raise FileNotFoundError(
                f"{self.name}: {', '.join(missing)} missing in {folder}.\n{self._expected()}\n{_found(folder)}"
            )

    def _expected(self) -> str:
        lines = [f"  {self.folders[0]}/", *(f"    {entry}" for entry in self.layout)]
        return "\n".join([f"Expected in {self.root}:", *lines])

    def _warn_about_counts(self) -> None:
        found = self.statistics()
        differences = [
            f"{split} {what} {getattr(found[split], what)} (published: {count})"
            for split, counts in self.official.items()
            for what, count in counts.items()
            if getattr(found[split], what) != count
        ]
        if differences:
            get_logger().warning(
                "%s in %s differs from the published dataset: %s.", self.name, self.folder, ", ".join(differences)
            )


def read_folder(
    root: Path,
    folder: str,
    pattern: re.Pattern,
    junk: Iterable[int] = (),
    view_of: Callable[[str], int | None] = lambda name: 0,
) -> ImageTable:
    """The images of `root/folder`, sorted by name, whose names give identity and camera.

    pattern: must match the whole name without its extension; group 1 is the identity, group 2 the camera, counted
    from 1 (camids count from 0). junk: identities that the protocol drops. view_of: viewpoint by file name; None
    drops the image. Raises ValueError naming the files whose names do not fit.
    """
    names, bad = [], []
    numbers: list[tuple[int, int, int]] = []
    for name in list_files(root / folder):
        file = Path(name)
        match = pattern.fullmatch(file.stem) if file.suffix.lower() in _IMAGE_SUFFIXES else None
        if match is None or int(match[2]) < 1:
            bad.append(name)
            continue
        pid, view = int(match[1]), view_of(name)
        if pid not in junk and view is not None:
            names.append(f"{folder}/{name}")
            numbers.append((pid, int(match[2]) - 1, view))
    if bad:
        raise ValueError(
            f"{len(bad)} files in {root / folder} do not fit the names '{pattern.pattern}' with one of "
            f"{', '.join(_IMAGE_SUFFIXES)}, cameras counted from 1: {examples(bad)}. Move them away or rename them."
        )
    columns = np.array(numbers, dtype=np.int64).reshape(len(numbers), 3).T
    return ImageTable(PathColumn(str(root), names), *columns)


def list_files(folder: Path) -> list[str]:
    """Names of everything in a folder, sorted, without hidden files and those that file managers leave."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return sorted(name for name in names if not name.startswith(".") and name.lower() not in _CLUTTER)


def examples(names: list[str]) -> str:
    """The first few of many names, for an error."""
    return ", ".join(names[:_EXAMPLES]) + (" ..." if len(names) > _EXAMPLES else "")


def _required(entry: str) -> str:
    """What of a layout's entry must exist: a file that it names, the first folder of names that it describes."""
    return entry.partition("/")[0] if "*" in entry else entry


def _found(folder: Path) -> str:
    if not folder.exists():
        return f"Found: {folder} does not exist."
    if not folder.is_dir():
        return f"Found: {folder} is a file."
    names = [f"{name}/" if (folder / name).is_dir() else name for name in list_files(folder)]
    shown = names[:20] + ([f"... ({len(names)} entries)"] if len(names) > 20 else [])
    return "\n".join([f"Found in {folder}:", *(f"  {name}" for name in shown or ["nothing"])])
