"""VeRi-776 (Liu et al., ECCV 2016): vehicles."""

import re
from pathlib import Path

from reid_core.data.datasets.base import ReIDDataset, Splits, read_folder
from reid_core.data.datasets.listing import printable, read_lines, without_ending
from reid_core.registry import DATASET_REGISTRY

_NAME = re.compile(r"(-?\d+)_c(\d+)_.+")
_JUNK = (-1,)
_KEYPOINT_FILES = ("keypoint_train.txt", "keypoint_test.txt")


@DATASET_REGISTRY.register()
class VeRi776(ReIDDataset):
    """576 vehicles to train on, 200 to test on, 20 cameras; names such as `0001_c001_00016450_0.jpg`.

    The viewpoint (0..7) comes from the keypoint files of Wang et al. (ICCV 2017), `keypoint_train.txt` and
    `keypoint_test.txt`, in the dataset's folder or beside it: a line's first field ends in the image's name, its last
    field is the viewpoint. With them, images without a viewpoint are left out, as published; without them, all
    images are kept with viewpoint 0. Identity -1 is dropped.
    """

    kind = "vehicle"
    folders = ("VeRi", "VeRi-776", "veri")
    layout = ("image_train/*.jpg", "image_query/*.jpg", "image_test/*.jpg")

    def read_splits(self) -> Splits:
        views = self._read_views()
        self.official = {
            "train": {"images": 37778 if views is None else 37746, "identities": 576, "cameras": 20},
            "query": {"images": 1678},
            "gallery": {"images": 11579},
        }
        view_of = None if views is None else lambda name: views.get(without_ending(name))
        folders = ("image_train", "image_query", "image_test")
        return Splits(*(read_folder(self.folder, name, _NAME, junk=_JUNK, view_of=view_of) for name in folders))

    def _read_views(self) -> dict[str, int] | None:
        """File name without its ending -> viewpoint from both keypoint files; None where there is neither."""
        for folder in (self.folder, self.root):
            present = [folder / name for name in _KEYPOINT_FILES if (folder / name).exists()]
            if len(present) == 1:
                raise FileNotFoundError(
                    f"{printable(present[0])} is there, but of {' and '.join(_KEYPOINT_FILES)} both are needed: "
                    "without the other, half of the images would have no viewpoint. Add it or take this one away."
                )
            if present:
                return {name: view for path in present for name, view in _read_keypoints(path)}
        return None


def _read_keypoints(path: Path) -> list[tuple[str, int]]:
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) < 2 or not fields[-1].isdecimal() or len(fields[-1]) > 9:
            raise ValueError(
                f"{printable(path)}, line {number}: '{printable(line[:80])}' must begin with an image's name and end "
                "with its viewpoint, a whole number from 0."
            )
        pairs.append((without_ending(fields[0].replace("\\", "/").rpartition("/")[2]), int(fields[-1])))
    return pairs
