"""DukeMTMC-reID (Zheng et al., ICCV 2017) and Occluded-Duke (Miao et al., ICCV 2019).

DukeMTMC was withdrawn by its authors in 2019. The readers exist for those who hold the data lawfully; for new work
take Market-1501 or MSMT17.
"""

import re

from reid_core.data.datasets.base import ReIDDataset, Splits, read_folder
from reid_core.registry import DATASET_REGISTRY

_NAME = re.compile(r"(-?\d+)_c(\d+)_.+")


@DATASET_REGISTRY.register()
class DukeMTMC(ReIDDataset):
    """702 identities to train on, 702 queried, 8 cameras; names such as `0001_c2_f0046182.jpg`. Nothing is dropped."""

    folders = ("DukeMTMC-reID", "DukeMTMC", "dukemtmc")
    layout = ("bounding_box_train/*.jpg", "query/*.jpg", "bounding_box_test/*.jpg")
    official = {
        "train": {"images": 16522, "identities": 702, "cameras": 8},
        "query": {"images": 2228},
        "gallery": {"images": 17661},
    }
    viewid = 0  # of every image

    def read_splits(self) -> Splits:
        folders = ("bounding_box_train", "query", "bounding_box_test")
        return Splits(*(read_folder(self.folder, name, _NAME, view_of=lambda _: self.viewid) for name in folders))


@DATASET_REGISTRY.register()
class OccludedDuke(DukeMTMC):
    """DukeMTMC's images, split so that every query is partly hidden. The published programs give it viewpoint 1."""

    folders = ("Occluded_Duke", "Occluded-Duke", "Occluded-DukeMTMC-reID")
    official = {
        "train": {"images": 15618, "identities": 702, "cameras": 8},
        "query": {"images": 2210},
        "gallery": {"images": 17661},
    }
    viewid = 1
