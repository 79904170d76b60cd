"""VehicleID (Liu et al., CVPR 2016): vehicles, with a test set of three sizes and without camera labels."""

import random
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from reid_core.data.datasets.base import ReIDDataset, Splits
from reid_core.data.datasets.listing import locate_listed, log_foreign, printable, read_lines, scan_folder
from reid_core.data.image_table import ImageTable, PathColumn
from reid_core.registry import DATASET_REGISTRY

_LIST_LINE = re.compile(r"(\d+)\s+(\d{1,9})")
_TRAIN_LIST = "train_test_split/train_list.txt"
_SPLIT_SEED = 1234  # the published programs'


def _official(test_identities: int) -> dict[str, dict[str, int]]:
    return {
        "train": {"images": 113346, "identities": 13164},
        "gallery": {"images": test_identities, "identities": test_identities},
    }


@DATASET_REGISTRY.register()
class VehicleID(ReIDDataset):
    """13164 vehicles to train on, 800 to test on; lines of the lists such as `0015213 12`: image, vehicle.

    One random image of each test vehicle is the gallery, the others are the queries; a vehicle with a single image
    has no query. The draw is that of the published programs: Python's generator, started with `split_seed`, chooses
    for one vehicle after the other; vehicles and images are sorted first, so that the order of the lines means
    nothing. Published numbers are means over such draws, see the evaluator.

    The dataset does not say which camera took an image. As published, query images have camera 0 and gallery images
    camera 1, so that the protocol leaves nothing out. These numbers belong to the draw and say nothing about the
    image: side information (MODEL.BACKBONE.SIE_CAMERA) must be off. The viewpoint is 0; the published programs
    write 1 for the only one, but viewpoints count from 0 and the first would have no image.
    """

    kind = "vehicle"
    names_cameras = False
    folders = ("VehicleID_V1.0", "VehicleID")
    test_list = "train_test_split/test_list_800.txt"
    layout = ("image/*.jpg", _TRAIN_LIST, test_list)
    official = _official(800)
    evaluator = "RandomGalleryEvaluator"

    def __init__(self, root: str, split_seed: int = _SPLIT_SEED):
        """root: as for every dataset. split_seed: starts the draw of the gallery."""
        self.split_seed = split_seed
        super().__init__(root)

    def read_splits(self) -> Splits:
        on_disk = scan_folder(self.folder / "image")
        log_foreign(self.folder / "image", on_disk.foreign)
        train = _read_list(self.folder, _TRAIN_LIST, on_disk.images)
        test = _read_list(self.folder, self.test_list, on_disk.images)
        drawn = draw_gallery(test.pids, self.split_seed)
        gallery = test.select(drawn)
        gallery.camids[:] = 1
        return Splits(train, test.select(~drawn), gallery)


@DATASET_REGISTRY.register()
class VehicleID1600(VehicleID):
    """The same training images, 1600 vehicles to test on."""

    test_list = "train_test_split/test_list_1600.txt"
    layout = ("image/*.jpg", _TRAIN_LIST, test_list)
    official = _official(1600)


@DATASET_REGISTRY.register()
class VehicleID2400(VehicleID):
    """The same training images, 2400 vehicles to test on."""

    test_list = "train_test_split/test_list_2400.txt"
    layout = ("image/*.jpg", _TRAIN_LIST, test_list)
    official = _official(2400)


def draw_gallery(pids: np.ndarray, seed: int) -> np.ndarray:
    """bool [N], True for one random image of each identity; pids: int64 [N], in any order."""
    positions = defaultdict(list)
    for position, pid in enumerate(pids.tolist()):
        positions[pid].append(position)
    generator, drawn = random.Random(seed), np.zeros(len(pids), dtype=bool)
    for pid in sorted(positions):
        drawn[generator.choice(positions[pid])] = True
    return drawn


def _read_list(root: Path, name: str, on_disk: list[str]) -> ImageTable:
    """The images that a list file names, sorted by name, all of camera 0. `on_disk`: the images in `image`, sorted."""
    pid_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(root / name), start=1):
        if not line:
            continue
        match = _LIST_LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{printable(root / name)}, line {number}: '{printable(line)}' is not of the form '0015213 12' "
                "(the image's name without .jpg, the vehicle's number)."
            )
        image = f"{match[1]}.jpg"
        if image in pid_of:
            raise ValueError(f"{printable(root / name)}, line {number}: {image} is listed twice.")
        pid_of[image] = int(match[2])
    located = locate_listed(pid_of, on_disk, root / "image", name)
    images = sorted(pid_of)
    pids = np.array([pid_of[image] for image in images], dtype=np.int64)
    return ImageTable(PathColumn(str(root), (f"image/{located[image]}" for image in images)), pids, np.zeros_like(pids))
