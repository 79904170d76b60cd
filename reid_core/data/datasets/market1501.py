"""Market-1501 (Zheng et al., ICCV 2015)."""

import re

from reid_core.data.datasets.base import ReIDDataset, Splits, read_folder
from reid_core.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class Market1501(ReIDDataset):
    """751 identities to train on, 750 to test on, 6 cameras; names such as `0002_c1s1_000451_03.jpg`.

    The protocol's junk, identity -1 (badly detected boxes), is dropped; identity 0 (distractors) stays in the gallery.
    """

    folders = ("Market-1501-v15.09.15", "Market-1501", "market1501")
    layout = ("bounding_box_train/*.jpg", "query/*.jpg", "bounding_box_test/*.jpg")
    official = {
        "train": {"images": 12936, "identities": 751, "cameras": 6},
        "query": {"images": 3368},
        "gallery": {"images": 15913},
    }
    pattern = re.compile(r"(-?\d+)_c(\d+)s\d+_.+")

    def read_splits(self) -> Splits:
        folders = ("bounding_box_train", "query", "bounding_box_test")
        return Splits(*(read_folder(self.folder, name, self.pattern, junk=(-1,)) for name in folders))
