"""MSMT17 (Wei et al., CVPR 2018) in the layouts that are in use."""

import re
from pathlib import Path

import numpy as np

from reid_core.data.datasets.base import ReIDDataset, Splits, read_folder
from reid_core.data.datasets.listing import locate_listed, log_foreign, printable, read_lines, scan_subfolders
from reid_core.data.image_table import ImageTable, PathColumn
from reid_core.registry import DATASET_REGISTRY
from reid_core.utils.logging import get_logger

_LIST_LINE = re.compile(r"(\S+)\s+(\d{1,9})")
_LISTED_NAME = re.compile(r"(?:[^/]+/)*[^_/]+_[^_/]+_(\d{1,9})_[^/]*\.\w+")  # the third field is the camera, from 1
_MARKET_NAME = re.compile(r"(-?\d+)_c(\d+)_.+")
_OFFICIAL = {
    "train": {"images": 32621, "identities": 1041, "cameras": 15},
    "query": {"images": 11659},
    "gallery": {"images": 82161},
}
_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")


@DATASET_REGISTRY.register()
class MSMT17(ReIDDataset):
    """1041 identities to train on (the lists train and val), 3060 to test on, 15 cameras; the first release (V1).

    A line of a list is `0000/0000_000_01_0303morning_0015_0.jpg 0`: the name's third field is the camera, the number
    the identity. The authors' programs refuse lists whose identities are not 0..n-1; this reader takes any numbers,
    since training labels are the rank of the identity and so equal the number where the lists are complete.
    """

    folders = ("MSMT17", "MSMT17_V1")
    layout = ("train/0000/*.jpg", "test/0000/*.jpg", *_LISTS)
    official = _OFFICIAL
    image_folders = ("train", "test")

    def read_splits(self) -> Splits:
        return self._read_lists()

    def _read_lists(self) -> Splits:
        train_folder, test_folder = self.image_folders
        train, query, gallery = ["list_train.txt", "list_val.txt"], ["list_query.txt"], ["list_gallery.txt"]
        train_files, test_files = (_images_below(self.folder / name) for name in self.image_folders)
        splits = Splits(
            _read_list(self.folder, train, train_folder, train_files),
            _read_list(self.folder, query, test_folder, test_files),
            _read_list(self.folder, gallery, test_folder, test_files),
        )
        unlisted = len(train_files) + len(test_files) - sum(len(table) for table in splits)
        if unlisted > 0:
            get_logger().warning(
                "%s: %d images in %s are in no list and left out.", self.name, unlisted, printable(self.folder)
            )
        return splits


@DATASET_REGISTRY.register()
class MSMT17V2(MSMT17):
    """The second release (faces hidden) of the same images, with lists or as a copy named in Market-1501's way.

    Lists: `mask_train_v2/`, `mask_test_v2/` and the four lists, read as MSMT17's. Without `mask_train_v2`, a copy in
    `bounding_box_train/`, `query/`, `bounding_box_test/` with names such as `0000_c14_0030.jpg`.
    """

    folders = ("MSMT17_V2",)
    layout = ("mask_train_v2/0000/*.jpg", "mask_test_v2/0000/*.jpg", *_LISTS)
    image_folders = ("mask_train_v2", "mask_test_v2")
    market_layout = ("bounding_box_train/*.jpg", "query/*.jpg", "bounding_box_test/*.jpg")

    def read_splits(self) -> Splits:
        if (self.folder / "mask_train_v2").exists():
            return self._read_lists()
        folders = [entry.partition("/")[0] for entry in self.market_layout]
        return Splits(*(read_folder(self.folder, name, _MARKET_NAME) for name in folders))

    def _require_layout(self, folder: Path) -> None:
        if not all((folder / entry.partition("/")[0]).is_dir() for entry in self.market_layout):
            super()._require_layout(folder)

    def _expected(self) -> str:
        return "\n".join([super()._expected(), "  or, instead:", *(f"    {entry}" for entry in self.market_layout)])


def _images_below(folder: Path) -> list[str]:
    """Paths `0000/name.jpg` of all images two levels down, sorted."""
    listing = scan_subfolders(folder)
    log_foreign(folder, listing.foreign)
    return listing.images


def _read_list(root: Path, lists: list[str], folder: str, on_disk: list[str]) -> ImageTable:
    """The images that the list files name, sorted by path. `on_disk`: the images in `folder`, sorted."""
    records: dict[str, tuple[int, int]] = {}
    for name in lists:
        for number, line in enumerate(read_lines(root / name), start=1):
            if not line:
                continue
            match = _LIST_LINE.fullmatch(line)
            camera = _LISTED_NAME.fullmatch(match[1]) if match else None
            if camera is None or int(camera[1]) < 1:
                raise ValueError(
                    f"{printable(root / name)}, line {number}: '{printable(line)}' is not of the form "
                    "'0000/0000_000_01_0303morning_0015_0.jpg 0' (third field: camera from 1; number: identity)."
                )
            if match[1] in records:
                raise ValueError(
                    f"{printable(root / name)}, line {number}: {printable(match[1])} is listed twice in "
                    f"{' + '.join(lists)}."
                )
            records[match[1]] = (int(match[2]), int(camera[1]) - 1)
    located = locate_listed(records, on_disk, root / folder, " + ".join(lists))
    paths = sorted(records)
    numbers = np.array([records[path] for path in paths], dtype=np.int64).reshape(len(paths), 2)
    return ImageTable(PathColumn(str(root), (f"{folder}/{located[path]}" for path in paths)), *numbers.T)
