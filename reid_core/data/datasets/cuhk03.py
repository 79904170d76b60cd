"""CUHK03 (Li et al., CVPR 2014) with the new protocol (Zhong et al., CVPR 2017), also known as CUHK03-NP."""

import re

from reid_core.data.datasets.base import ReIDDataset, Splits, read_folder
from reid_core.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class CUHK03Labeled(ReIDDataset):
    """767 identities to train on, 700 to test on, 2 cameras; boxes drawn by hand; names such as `0001_c1_1.png`.

    The usual protocol: one query of each test identity by each camera, the rest is the gallery. Boxes by hand and by a
    detector are two datasets and not an option of one, so that a run can be tested on both under their own names.
    """

    folders = ("cuhk03-np/labeled", "CUHK03-NP/labeled")
    layout = ("bounding_box_train/*.png", "query/*.png", "bounding_box_test/*.png")
    official = {
        "train": {"images": 7368, "identities": 767, "cameras": 2},
        "query": {"images": 1400, "identities": 700},
        "gallery": {"images": 5328, "identities": 700},
    }
    pattern = re.compile(r"(-?\d+)_c(\d+)_.+")

    def read_splits(self) -> Splits:
        folders = ("bounding_box_train", "query", "bounding_box_test")
        return Splits(*(read_folder(self.folder, name, self.pattern) for name in folders))


@DATASET_REGISTRY.register()
class CUHK03Detected(CUHK03Labeled):
    """The same people in the boxes of a detector."""

    folders = ("cuhk03-np/detected", "CUHK03-NP/detected")
    official = {
        "train": {"images": 7365, "identities": 767, "cameras": 2},
        "query": {"images": 1400, "identities": 700},
        "gallery": {"images": 5332, "identities": 700},
    }
