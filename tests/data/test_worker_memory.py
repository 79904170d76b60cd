"""The memory of a worker process grows neither with the batches that it prepared nor with the length of the list."""

import re
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_core.data import ImageTable, PathColumn, TestLoader, build_transforms
from tests.data.conftest import write_image
from tests.data.test_loader import config

IMAGES, FILES = 240_000, 4
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def own_megabytes():
    """Memory that this process shares with no other: a forked one's grows as it writes to what it was given."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(map(int, re.findall(r"^Private_(?:Dirty|Clean): +(\d+) kB", text, re.M))) / 1000


class Measured:
    """The usual transforms; but what comes out is the worker's memory."""

    def __init__(self):
        self.transform = build_transforms(config(ERASING_FILL="noise"), train=True)
        self.calls = self.megabytes = 0

    def __call__(self, image):
        assert self.transform(image).shape == (3, 32, 16)
        if self.calls % 200 == 0:  # it takes milliseconds
            self.megabytes = own_megabytes()
        self.calls += 1
        return torch.full((3, 1, 1), self.megabytes)


def growth(table, **options):
    """Megabytes from the first fifth of a pass to its end."""
    loader = TestLoader(table, Measured(), 32, num_workers=1, **options)
    loader.shard = np.linspace(0, len(table) - 1, 3200).astype(int).tolist()  # every 75th: all pages of a list
    measured = [float(batch["images"].mean()) for batch in loader]
    assert len(measured) == 100
    return statistics.median(measured[-5:]) - statistics.median(measured[14:20])


@pytest.fixture
def paths(tmp_path):
    for number in range(FILES):
        write_image(tmp_path / f"{number}.jpg", number, (64, 128))
    # Names of some length, all different objects, of the same few files.
    return [f"{'./' * (position % 5)}{position % FILES}.jpg" for position in range(IMAGES)]


@pytest.mark.parametrize("options", [{}, {"scaled_decoding": True}])
def test_the_memory_of_a_worker_does_not_grow(paths, tmp_path, options):
    numbers = np.zeros(IMAGES, dtype=np.int64)
    assert growth(ImageTable(PathColumn(str(tmp_path), paths), numbers, numbers), **options) < 3


def test_nor_does_it_with_a_cache(paths, tmp_path):
    numbers = np.zeros(3200, dtype=np.int64)
    table = ImageTable(PathColumn(str(tmp_path), paths[:3200]), numbers, numbers)
    assert growth(table, cache_dir=str(tmp_path / "cache")) < 3


def test_the_measure_sees_a_list_being_copied(paths, tmp_path):
    class ListOfPaths(PathColumn):
        def __init__(self, paths):
            self._paths = [f"{tmp_path}/{path}" for path in paths]

        def __len__(self):
            return len(self._paths)

        def __getitem__(self, index):
            return self._paths[index]

    numbers = np.zeros(IMAGES, dtype=np.int64)
    assert growth(ImageTable(ListOfPaths(paths), numbers, numbers)) > 8
