"""A small trained run, made once: what is loaded, packed and pushed."""

import pytest

from reid_core.engine.launch import main
from tests.conftest import SMALL_RUN, write_small_clip, write_small_market
from tests.paths import ROOT


def train_small(folder, config="PCL_CLIP/configs/market.yml", **more):
    """A run of six steps in `folder`; returns its best checkpoint."""
    keys = {
        **SMALL_RUN,
        "DATASETS.ROOT": write_small_market(folder / "data"),
        "MODEL.BACKBONE.ARCHITECTURE": write_small_clip(folder / "small.json"),
        "OUTPUT_DIR": folder / "run",
        **more,
    }
    words = [str(word) for pair in keys.items() for word in pair]
    assert main(["--config-file", str(ROOT / "projects" / config), *words]) == 0
    return folder / "run" / "best.pt"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """best.pt of the prototype method; beside it the run, its data and its architecture. Read only."""
    return train_small(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def camera_checkpoint(tmp_path_factory):
    """The same with side information by camera, two cameras."""
    return train_small(tmp_path_factory.mktemp("cameras"), **{"MODEL.BACKBONE.SIE_CAMERA": True})


@pytest.fixture(scope="session")
def gallery(checkpoint):
    """The folder of the gallery's images."""
    return checkpoint.parents[1] / "data" / "Market-1501-v15.09.15" / "bounding_box_test"
