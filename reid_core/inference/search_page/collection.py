"""What a search page searches in and with: a gallery, its dataset's queries, the names of cameras and identities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_core.data.datasets import ReIDDataset, require_splits
from reid_core.data.image_table import ImageTable, PathColumn
from reid_core.inference.inputs import IMAGE_SUFFIXES, list_images
from reid_core.retrieval.gallery import UNKNOWN_CAMERA
from reid_core.structures import ReIDImage

UNKNOWN_IDENTITY = -1


@dataclass(frozen=True)
class Collection:
    """Images are addressed by their number in `gallery` or `query`, in the dataset's order.

    gallery, query: camid -1 where the camera is unknown, pid -1 where the identity is; query may be empty.
    camera_names, identity_names: what the data call them, in the order of the numbers; None: published datasets, whose
    cameras are shown counted from 1 and whose identities are their numbers.
    """

    name: str
    gallery: ImageTable
    query: ImageTable
    camera_names: Sequence[str] | None = None
    identity_names: Sequence[str] | None = None

    def table(self, source: str) -> ImageTable:
        """source: "gallery" or "query"."""
        return {"gallery": self.gallery, "query": self.query}[source]

    def camera(self, camid: int) -> str | None:
        """What the page calls a camera; None for an unknown one."""
        if camid == UNKNOWN_CAMERA:
            return None
        return str(camid + 1) if self.camera_names is None else str(self.camera_names[camid])

    def identity(self, record: ReIDImage) -> str | None:
        """What the page calls the identity of an image; None if it is unknown."""
        if record.pid <= UNKNOWN_IDENTITY:
            return None
        return str(record.pid) if self.identity_names is None else str(self.identity_names[record.pid])

    def gallery_cameras(self) -> list[int]:
        """The known cameras of the gallery, rising."""
        camids = np.unique(self.gallery.camids)
        return camids[camids != UNKNOWN_CAMERA].tolist()


def collection_of_dataset(dataset: ReIDDataset) -> Collection:
    """Gallery and queries of a dataset. Raises ConfigError for one without gallery images."""
    require_splits(dataset, ("gallery",), "--gallery")
    tables = [getattr(dataset, split) for split in ("gallery", "query")]
    if not dataset.names_cameras:  # they only serve the protocol
        tables = [_without_cameras(table) for table in tables]
    return Collection(
        dataset.name, *tables, getattr(dataset, "camid_values", None), getattr(dataset, "pid_values", None)
    )


def collection_of_folder(folder: str | Path) -> Collection:
    """All images below a folder, sorted by path; identities and cameras are unknown.

    Raises FileNotFoundError if there is no such folder, ValueError if it holds no image.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} (working folder: {Path.cwd()}).")
    folder = folder.resolve()
    paths = list_images(folder)
    if not paths:
        raise ValueError(f"The folder {folder} holds no image: no file below it ends in {', '.join(IMAGE_SUFFIXES)}.")
    unknown = np.full(len(paths), -1)
    column = PathColumn(str(folder), (path.relative_to(folder).as_posix() for path in paths))
    return Collection(folder.name, ImageTable(column, unknown, unknown), ImageTable.from_records([]))


def _without_cameras(table: ImageTable) -> ImageTable:
    return ImageTable(table.paths, table.pids, np.full(len(table), UNKNOWN_CAMERA), table.viewids)
