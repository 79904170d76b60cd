"""Tiny datasets of PIL-made files for the data layer's tests."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.data.datasets import Market1501


def write_image(path: Path, seed: int, size: tuple[int, int] = (32, 64)) -> None:
    """A smooth random JPEG or PNG. size: width, height."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 3, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)


def write_market(root: Path, identities: int = 6, images: int = 5) -> Path:
    """A Market-1501 layout with real images; returns its folder."""
    folder = root / "Market-1501-v15.09.15"
    for identity in range(identities):
        for number in range(images):
            name = f"{identity * 3 + 2:04d}_c{number % 6 + 1}s1_{number:06d}_00.jpg"
            write_image(folder / "bounding_box_train" / name, seed=100 * identity + number)
    for split, camera in (("query", 1), ("bounding_box_test", 2)):
        for identity in range(3):
            write_image(folder / split / f"{identity + 700:04d}_c{camera}s1_000001_00.jpg", seed=5000 + identity)
    return folder


def touch(folder: Path, names: list[str]) -> None:
    """Empty files: enough for readers, which do not decode."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture(scope="session")
def market_root(tmp_path_factory) -> Path:
    """A root with a small Market-1501; read only."""
    root = tmp_path_factory.mktemp("market")
    write_market(root)
    return root


@pytest.fixture(scope="session")
def market(market_root) -> Market1501:
    return Market1501(str(market_root))


@pytest.fixture
def log(caplog):
    """What the toolkit logs; its logger hands nothing on to pytest's once a test has set it up."""
    logger = logging.getLogger("reid")
    before, logger.propagate = logger.propagate, True
    yield caplog
    logger.propagate = before


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
