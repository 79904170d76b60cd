"""The dataset readers, one a file; importing this package registers them."""

from reid_core.data.datasets.base import ReIDDataset, Splits, SplitStatistics, read_folder
from reid_core.data.datasets.dukemtmc import DukeMTMC, OccludedDuke
from reid_core.data.datasets.market1501 import Market1501
from reid_core.data.datasets.msmt17 import MSMT17, MSMT17V2
from reid_core.data.datasets.vehicleid import VehicleID, VehicleID1600, VehicleID2400
from reid_core.data.datasets.veri776 import VeRi776

__all__ = [
    "MSMT17",
    "MSMT17V2",
    "DukeMTMC",
    "Market1501",
    "OccludedDuke",
    "ReIDDataset",
    "SplitStatistics",
    "Splits",
    "VeRi776",
    "VehicleID",
    "VehicleID1600",
    "VehicleID2400",
    "read_folder",
]
