"""What every dataset reader shares: finding the folder, listing and parsing names, checking counts."""

import os
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reid_core.data.datasets.listing import IMAGE_SUFFIXES, examples, list_files, log_foreign, printable, scan_folder
from reid_core.data.image_table import ImageTable, PathColumn
from reid_core.utils.logging import get_logger

SPLITS = ("train", "query", "gallery")
UNLABELLED = -1  # pid of a training image whose identity nobody knows; in query and gallery -1 is junk
_MOST = 2**31 - 1  # the largest number taken from a name: far above any dataset's, far below what an int64 holds


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

    pid_values, camid_values: what the files call identities and cameras, by number, where a number is only a rank;
    None where the numbers are the files' own.
    """

    kind: str = "person"  # "person" or "vehicle"
    folders: tuple[str, ...] = ()  # names that the dataset's own folder has in use; the first is the published one
    layout: tuple[str, ...] = ()  # what lies in it, as shown when it is not found; see `_is_there`
    pid_values: Sequence[str] | None = None
    camid_values: Sequence[str] | None = None
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
                raise ValueError(
                    f"{self.name}: the {split} split is empty in {printable(self.folder)}.\n{self._expected()}"
                )
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
        return 1 + max(int(getattr(self, split).camids.max(initial=0)) for split in SPLITS)

    @property
    def num_views(self) -> int:
        """Viewpoints over all splits: the largest viewid + 1."""
        return 1 + max(int(getattr(self, split).viewids.max(initial=0)) for split in SPLITS)

    def statistics(self) -> dict[str, SplitStatistics]:
        """Images, identities (without -1) and cameras of each split."""
        tables = {split: getattr(self, split) for split in SPLITS}
        return {
            split: SplitStatistics(
                len(table), len(np.unique(table.pids[table.pids != UNLABELLED])), len(np.unique(table.camids))
            )
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
        parts = {part for name in self.folders for part in name.split("/")}
        above = " DATASETS.ROOT is the folder above the dataset's own." if self.root.name in parts else ""
        raise FileNotFoundError(
            f"{self.name} is not in {printable(self.root)}: no folder {' or '.join(map(repr, self.folders))}.{above}\n"
            f"{self._expected()}\n{_found(self.root)}"
        )

    def _require_layout(self, folder: Path) -> None:
        missing = [entry for entry in self.layout if not _is_there(folder, entry)]
        if missing:
            raise FileNotFoundError(
                f"{self.name}: {', '.join(missing)} missing in {printable(folder)}.\n{self._expected()}\n"
                f"{_found(folder)}"
            )

    def _expected(self) -> str:
        lines = [f"  {self.folders[0]}/", *(f"    {entry}" for entry in self.layout)]
        return "\n".join([f"Expected in {printable(self.root)}:", *lines])

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
                "%s in %s differs from the published dataset: %s.",
                self.name,
                printable(self.folder),
                ", ".join(differences),
            )


def read_folder(
    root: Path,
    folder: str,
    pattern: re.Pattern,
    junk: Iterable[int] = (),
    view_of: Callable[[str], int | None] | None = None,
) -> ImageTable:
    """The images of `root/folder`, sorted by name, whose names give identity and camera; see `parse_names`.

    What is not an image (by its ending) is ignored, and its number logged.
    """
    listing = scan_folder(root / folder)
    log_foreign(root / folder, listing.foreign)
    return parse_names(root, folder, listing.images, pattern, junk, view_of)


def parse_names(
    root: Path,
    folder: str,
    names: Sequence[str],
    pattern: re.Pattern,
    junk: Iterable[int] = (),
    view_of: Callable[[str], int | None] | None = None,
) -> ImageTable:
    """The table of images `root/folder/name`, in the order of `names`.

    pattern: must match the whole name without its extension; group 1 is the identity, group 2 the camera, counted
    from 1 (camids count from 0). junk: identities that the protocol drops. view_of: viewpoint by file name; None
    drops the image. Without it all viewpoints are 0. Raises ValueError naming the files whose names do not fit.
    """
    kept, bad, dropped = [], [], frozenset(junk)
    pids, camids, viewids = array("q"), array("q"), array("q")
    fullmatch, view = pattern.fullmatch, 0
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        match = fullmatch(stem) if dot + suffix.lower() in IMAGE_SUFFIXES else None
        if match is None:
            bad.append(name)
            continue
        pid, camera = int(match[1]), int(match[2])
        if not (1 <= camera <= _MOST and -_MOST <= pid <= _MOST):
            bad.append(name)
            continue
        if view_of is not None:
            view = view_of(name)
        if view is None or pid in dropped:
            continue
        kept.append(name)
        pids.append(pid)
        camids.append(camera - 1)
        viewids.append(view)
    if bad:
        raise ValueError(
            f"{len(bad)} files in {printable(root / folder)} do not fit the names '{pattern.pattern}' with one of "
            f"{', '.join(IMAGE_SUFFIXES)}, cameras counted from 1: {examples(bad)}. Move them away or rename them."
        )
    columns = (np.array(column, dtype=np.int64) for column in (pids, camids, viewids))
    return ImageTable(PathColumn(str(root), (f"{folder}/{name}" for name in kept)), *columns)


def _is_there(folder: Path, entry: str) -> bool:
    """Of a layout's entry: the file that it names, or the first folder of names with `*`; any one of several " or "."""
    return any(
        (folder / name.partition("/")[0]).is_dir() if "*" in name else (folder / name).is_file()
        for name in entry.split(" or ")
    )


def _found(folder: Path) -> str:
    if not folder.exists():
        return f"Found: {printable(folder)} does not exist."
    if not folder.is_dir():
        return f"Found: {printable(folder)} is a file."
    names = [f"{printable(name)}/" if (folder / name).is_dir() else printable(name) for name in list_files(folder)]
    shown = names[:20] + ([f"... ({len(names)} entries)"] if len(names) > 20 else [])
    return "\n".join([f"Found in {printable(folder)}:", *(f"  {name}" for name in shown or ["nothing"])])
