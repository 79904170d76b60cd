"""The dataset readers, one a file; importing this package registers them."""

from reid_core.data.datasets.base import ReIDDataset, Splits, SplitStatistics, read_folder
from reid_core.data.datasets.cuhk03 import CUHK03Detected, CUHK03Labeled
from reid_core.data.datasets.dukemtmc import DukeMTMC, OccludedDuke
from reid_core.data.datasets.entries import build_dataset, dataset_kind, dataset_name, require_splits
from reid_core.data.datasets.image_folder import ImageFolder
from reid_core.data.datasets.manifest import Manifest
from reid_core.data.datasets.market1501 import Market1501
from reid_core.data.datasets.msmt17 import MSMT17, MSMT17V2
from reid_core.data.datasets.vehicleid import VehicleID, VehicleID1600, VehicleID2400
from reid_core.data.datasets.veri776 import VeRi776
from reid_core.data.datasets.veri_wild import VERIWild, VERIWild5000, VERIWild10000

__all__ = [
    "MSMT17",
    "MSMT17V2",
    "CUHK03Detected",
    "CUHK03Labeled",
    "DukeMTMC",
    "ImageFolder",
    "Manifest",
    "Market1501",
    "OccludedDuke",
    "ReIDDataset",
    "SplitStatistics",
    "Splits",
    "VERIWild",
    "VERIWild5000",
    "VERIWild10000",
    "VeRi776",
    "VehicleID",
    "VehicleID1600",
    "VehicleID2400",
    "build_dataset",
    "dataset_kind",
    "dataset_name",
    "read_folder",
    "require_splits",
]
