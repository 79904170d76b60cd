"""Unsupervised runs that take a second, on images whose clusters are known beforehand."""

import shutil

import numpy as np
import pytest
from PIL import Image

from reid_core.engine.default_trainer import DefaultTrainer
from reid_core.projects import load_config
from tests.conftest import write_small_market
from tests.paths import ROOT


@pytest.fixture(scope="session")
def clusters_config() -> str:
    """The base config without identity labels."""
    return str(ROOT / "projects" / "PCL_CLIP" / "configs" / "unsupervised_base.yml")


@pytest.fixture(scope="session")
def clusters_market(tmp_path_factory):
    """DATASETS.ROOT of a tiny Market-1501 whose 7 identities of four images are found as clusters: one of them (8) is
    seen by a single camera, and the two images of another (9), the only ones of camera 3, are too few for a cluster."""
    root = write_small_market(tmp_path_factory.mktemp("clusters"))
    folder = root / "Market-1501-v15.09.15" / "bounding_box_train"
    for pid, camera, images in ((8, 1, 4), (9, 3, 2)):
        color = np.random.default_rng(pid).integers(40, 215, (8, 4, 3))
        pixels = np.repeat(np.repeat(color, 8, axis=0), 8, axis=1).astype(np.uint8)
        for number in range(images):
            name = f"{pid:04d}_c{camera}s1_{number:06d}_00.jpg"
            Image.fromarray(pixels + np.uint8(number)).save(folder / name, quality=92)
    return root


@pytest.fixture(scope="session")
def unlabelled_folder(clusters_market, tmp_path_factory):
    """A folder of the same training images without identities, and nothing to test on; the camera is in the names."""
    root = tmp_path_factory.mktemp("unlabelled")
    (root / "street" / "train").mkdir(parents=True)
    images = sorted((clusters_market / "Market-1501-v15.09.15" / "bounding_box_train").iterdir())
    for number, path in enumerate(images):
        camera = path.name.split("_")[1][:2]
        shutil.copy(path, root / "street" / "train" / f"{number:03d}_{camera}.jpg")
    return root


@pytest.fixture
def clusters_run(small_run, clusters_market):
    """clusters_run(**more) -> the words after --config-file; two epochs of three steps, 7 clusters, 13 proxies."""

    def words(**more: object) -> list[str]:
        keys = {
            "DATASETS__ROOT": clusters_market,
            "DATALOADER__NUM_INSTANCES": 4,
            "PCL__CLUSTERING__K1": 4,
            "PCL__CLUSTERING__K2": 2,
            **more,
        }
        return small_run(**keys)

    return words


@pytest.fixture
def clusters_trainer(clusters_config, clusters_run):
    """clusters_trainer(**more) -> the trainer of such a run, before its first step."""
    return lambda **more: DefaultTrainer(load_config(clusters_config, clusters_run(**more)))
