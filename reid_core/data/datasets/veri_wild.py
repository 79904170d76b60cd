"""VERI-Wild (Lou et al., CVPR 2019): vehicles seen by 174 cameras, with a test set of three sizes."""

import re
from pathlib import Path

import numpy as np

from reid_core.data.datasets.base import ReIDDataset, Splits
from reid_core.data.datasets.listing import (
    examples,
    locate_listed,
    log_foreign,
    printable,
    read_lines,
    scan_subfolders,
    without_ending,
)
from reid_core.data.image_table import ImageTable, PathColumn
from reid_core.registry import DATASET_REGISTRY

_LIST_LINE = re.compile(r"(\d{1,9})/([^/\s]+)(?:\s+\d+)*")
_INFO_LINE = re.compile(r"(\d{1,9}/[^/;]+);\s*(\d{1,9})\s*(?:;.*)?")
_INFO = "train_test_split/vehicle_info.txt"
_TRAIN = "train_test_split/train_list.txt or train_test_split/train_list_start0.txt"


def _layout(size: int) -> tuple[str, ...]:
    """Query before gallery, after the training list; each as the two releases name it."""
    test = f"train_test_split/test_{size}"
    query, gallery = f"{test}_query.txt or {test}_id_query.txt", f"{test}.txt or {test}_id.txt"
    return ("images/11542/*.jpg", _INFO, _TRAIN, query, gallery)


def _official(identities: int, gallery: int) -> dict[str, dict[str, int]]:
    return {
        "train": {"images": 277797, "identities": 30671},
        "query": {"images": identities, "identities": identities},
        "gallery": {"images": gallery, "identities": identities},
    }


@DATASET_REGISTRY.register()
class VERIWild(ReIDDataset):
    """30671 vehicles to train on, 3000 to test on; lines of the lists such as `11542/119083`: vehicle, image.

    The camera comes from `vehicle_info.txt`, whose lines begin as `11542/119083;23;`. Cameras count from 0 in the
    order of their numbers in that file, which tells of the images of all splits. One query a vehicle, and the usual
    protocol: the authors, too, leave out what the query's camera has seen of the query's vehicle.

    The later release calls the lists `train_list_start0.txt`, `test_3000_id.txt` and `test_3000_id_query.txt`, and
    adds to each line the ending `.jpg`, a label and the camera. Both are read; of a line only the first field is.
    """

    kind = "vehicle"
    folders = ("VERI-Wild", "VeRI-Wild", "VeRi-Wild", "veri-wild")
    layout = _layout(3000)
    official = _official(3000, 38861)

    def read_splits(self) -> Splits:
        lists = [self._find_list(entry) for entry in self.layout[2:]]
        listed = [_read_list(path) for path in lists]
        camera_of = _read_cameras(self.folder / _INFO)
        vehicles = {image.partition("/")[0] for images in listed for image in images}
        on_disk = scan_subfolders(self.folder / "images", vehicles)
        log_foreign(self.folder / "images", on_disk.foreign)
        tables = (
            _table(self.folder, path.name, images, camera_of, on_disk.images)
            for path, images in zip(lists, listed, strict=True)
        )
        return Splits(*tables)

    def _find_list(self, entry: str) -> Path:
        return next(path for name in entry.split(" or ") if (path := self.folder / name).is_file())


@DATASET_REGISTRY.register()
class VERIWild5000(VERIWild):
    """The same training images, 5000 vehicles to test on."""

    layout = _layout(5000)
    official = _official(5000, 64389)


@DATASET_REGISTRY.register()
class VERIWild10000(VERIWild):
    """The same training images, 10000 vehicles to test on."""

    layout = _layout(10000)
    official = _official(10000, 128517)


def _read_list(path: Path) -> list[str]:
    """The images that a list names, as `11542/119083`, sorted."""
    images: set[str] = set()
    for number, line in enumerate(read_lines(path), start=1):
        if not line:
            continue
        match = _LIST_LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{printable(path)}, line {number}: '{printable(line)}' is not of the form '11542/119083' "
                "(the vehicle's number, the image's name with or without .jpg)."
            )
        image = f"{match[1]}/{without_ending(match[2])}"
        if image in images:
            raise ValueError(f"{printable(path)}, line {number}: {printable(image)} is listed twice.")
        images.add(image)
    return sorted(images)


def _read_cameras(path: Path) -> dict[str, int]:
    """Image -> camera, counted from 0, as vehicle_info.txt tells; its first line may name the fields."""
    number_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line or (number == 1 and line.startswith("id/image")):
            continue
        match = _INFO_LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{printable(path)}, line {number}: '{printable(line[:80])}' does not begin as '11542/119083;23;' "
                "(the vehicle's number, the image's name, the camera's number)."
            )
        number_of[without_ending(match[1])] = int(match[2])
    rank = {camera: position for position, camera in enumerate(sorted(set(number_of.values())))}
    return {image: rank[camera] for image, camera in number_of.items()}


def _table(root: Path, name: str, images: list[str], camera_of: dict[str, int], on_disk: list[str]) -> ImageTable:
    """on_disk: the images in `images`, sorted. name: the list's, for errors."""
    unknown = [image for image in images if image not in camera_of]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(images)} images of {name} are not in {printable(root / _INFO)}, which tells their "
            f"cameras: {examples(unknown)}. The lists and it must be of one release."
        )
    located = locate_listed(images, on_disk, root / "images", name)
    pids = np.array([int(image.partition("/")[0]) for image in images], dtype=np.int64)
    camids = np.array([camera_of[image] for image in images], dtype=np.int64)
    return ImageTable(PathColumn(str(root), (f"images/{located[image]}" for image in images)), pids, camids)
