"""A dataset and a model small enough for tests that really train."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.utils.logging import get_logger
from tests.paths import ROOT

torch.set_num_threads(1)  # two test processes share two cores

SMALL_RUN = {
    "DEMO.TRAIN_IDENTITIES": "6",
    "DEMO.IMAGES_PER_CAMERA": "2",
    "MODEL.BACKBONE.PRETRAINED": "",
    "INPUT.SIZE_TRAIN": "[64, 32]",
    "INPUT.SIZE_TEST": "[64, 32]",
    "DATALOADER.BATCH_SIZE": "8",
    "DATALOADER.NUM_INSTANCES": "2",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.MAX_EPOCHS": "2",
    "SOLVER.ITERATIONS_PER_EPOCH": "3",
    "SOLVER.WARMUP_EPOCHS": "0",
    "SOLVER.BASE_LR": "0.01",
    "TEST.BATCH_SIZE": "16",
    "LOG.TENSORBOARD": "False",
    "LOG.PERIOD": "1",
}


def write_small_clip(path: Path, width: int = 32, layers: int = 2, patch: int = 16) -> Path:
    """A JSON of open_clip's format for a tower that runs in milliseconds."""
    content = {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 224,
            "layers": layers,
            "width": width,
            "head_width": 16,
            "patch_size": patch,
            "mlp_ratio": 2.0,
        },
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    path.write_text(json.dumps(content))
    return path


def write_small_market(root: Path, train_identities: int = 6, test_identities: int = 4, images: int = 4) -> Path:
    """A Market-1501 tree: every identity has a colour, every camera a tint; 64 x 32 pixels."""
    folder = root / "Market-1501-v15.09.15"
    for split in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / split).mkdir(parents=True)
    rng = np.random.default_rng(0)

    def save(split: str, pid: int, camera: int, frame: int) -> None:
        color = np.random.default_rng(pid).integers(40, 215, (8, 4, 3))
        pixels = np.repeat(np.repeat(color, 8, axis=0), 8, axis=1) + rng.normal(0, 12, (64, 32, 3)) + 5 * camera
        name = f"{pid:04d}_c{camera}s1_{frame:06d}_00.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / split / name, quality=92)

    for pid in range(2, 2 + train_identities):
        for number in range(images):
            save("bounding_box_train", pid, 1 + number % 2, number)
    for pid in range(100, 100 + test_identities):
        save("query", pid, 1, 0)
        for number in range(1, images):
            save("bounding_box_test", pid, 1 + number % 2, number)
    return root


@pytest.fixture(scope="session")
def small_market(tmp_path_factory) -> Path:
    """DATASETS.ROOT of a tiny Market-1501; shared, so read only."""
    return write_small_market(tmp_path_factory.mktemp("market"))


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory) -> Path:
    """MODEL.BACKBONE.ARCHITECTURE of a tiny ViT."""
    return write_small_clip(tmp_path_factory.mktemp("clip") / "small.json")


@pytest.fixture
def small_run(small_market, small_clip, tmp_path):
    """overrides(**more) -> the words after --config-file of a run that takes a second; OUTPUT_DIR is tmp_path/run."""

    def overrides(**more: object) -> list[str]:
        keys = {
            **SMALL_RUN,
            "DATASETS.ROOT": str(small_market),
            "MODEL.BACKBONE.ARCHITECTURE": str(small_clip),
            "OUTPUT_DIR": str(tmp_path / "run"),
            **{key.replace("__", "."): str(value) for key, value in more.items()},
        }
        return [word for pair in keys.items() for word in pair]

    return overrides


@pytest.fixture(scope="session")
def market_config() -> str:
    """The prototype method's config for Market-1501."""
    return str(ROOT / "projects" / "PCL_CLIP" / "configs" / "market.yml")


@pytest.fixture
def logger_as_it_was():
    """The commands set the log up for a terminal, which other tests' records would not reach pytest through."""
    logger = get_logger()
    before = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.level, logger.propagate, logger.handlers[:] = before


@pytest.fixture(scope="session")
def subprocess_environment() -> dict[str, str]:
    """For tests that start the commands as a user does: one thread, so that test processes do not fight."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
