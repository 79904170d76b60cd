import random

import numpy as np
import pytest
import torch

from reid_core.data.worker import (
    Failure,
    ImageFiles,
    Task,
    WorkerTraceback,
    raise_failure,
    restored_generators,
    sample_seed,
    seed_generators,
)
from tests.data.conftest import write_image


def draws():
    return torch.rand(2).tolist(), random.random(), np.random.rand()


def test_seeds_of_neighbouring_samples_differ():
    seeds = {sample_seed(*key) for key in np.ndindex(3, 4, 10, 16)}
    assert len(seeds) == 3 * 4 * 10 * 16 and all(0 <= seed < 2**64 for seed in seeds)
    assert sample_seed(1, 2, 3, 4) == sample_seed(1, 2, 3, 4)


@pytest.mark.parametrize("seed", [0, 2**32, 2**63, 2**64 - 1])
def test_all_three_generators_are_seeded_and_restored(seed):
    before = draws(), seed_generators(5)
    expected = draws()
    seed_generators(5)
    with restored_generators():
        seed_generators(seed)
        first = draws()
        seed_generators(seed)
        assert draws() == first
    assert draws() == expected != before[0]


def test_generators_are_restored_after_an_error():
    seed_generators(5)
    expected = draws()
    seed_generators(5)
    with pytest.raises(KeyError), restored_generators():
        draws()
        raise KeyError
    assert draws() == expected


@pytest.fixture
def files(tmp_path):
    for number, size in enumerate([(8, 16), (8, 16), (9, 16)]):
        write_image(tmp_path / f"{number}.png", number, size)
    return [str(tmp_path / f"{number}.png") for number in range(3)]


def test_a_task_becomes_a_batch_in_its_order(files):
    loaded = ImageFiles(files, lambda image: image)[Task([1, 0, 1], [1, 2, 3])]
    assert loaded.positions == [1, 0, 1] and loaded.images.shape == (3, 3, 16, 8)
    assert torch.equal(loaded.images[0], loaded.images[2]) and loaded.images.is_contiguous()


def test_each_sample_sees_its_own_seed(files):
    loaded = ImageFiles(files, lambda image: torch.rand(3, 2, 2))[Task([0, 0, 1, 1], [7, 8, 7, 8])]
    assert torch.equal(loaded.images[:2], loaded.images[2:])
    assert not torch.equal(loaded.images[0], loaded.images[1])


def test_images_of_different_size_name_both_files(files):
    failure = ImageFiles(files, lambda image: image)[Task([0, 2], [0, 0])]
    with pytest.raises(ValueError, match=r"0.png is uint8 \[3, 16, 8\], .*2.png is uint8 \[3, 16, 9\]. Put Resize"):
        raise_failure(failure)


class TwoPartError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (ValueError("bad value"), ValueError, "^bad value$"),
        (KeyError("name"), KeyError, "^'name'$"),
        (TwoPartError(1, 2), RuntimeError, "^TwoPartError: 1 and 2$"),
    ],
)
def test_an_error_keeps_its_type_and_text_and_says_where(files, error, expected, text):
    def fail(image):
        raise error

    failure = ImageFiles(files, fail)[Task([0], [0])]
    with pytest.raises(expected, match=text) as caught:
        raise_failure(failure)
    assert isinstance(caught.value.__cause__, WorkerTraceback) and "in fail" in str(caught.value.__cause__)


def test_an_unreadable_file_needs_no_traceback(tmp_path):
    failure = ImageFiles([str(tmp_path / "gone.jpg")], lambda image: image)[Task([0], [0])]
    assert isinstance(failure, Failure)
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg") as caught:
        raise_failure(failure)
    assert caught.value.__cause__ is None
