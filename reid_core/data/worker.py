"""What decodes images: runs in the loader's worker processes, or in the training process if there are none.

It knows files and transforms, no labels: those are looked up by the training process, so that they can change while
the workers live on.
"""

import contextlib
import hashlib
import random
import signal
import struct
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from reid_core.data.decoded_images import DecodedImages
from reid_core.data.image_cache import ImageCache
from reid_core.data.transforms import split_resize


class Task(NamedTuple):
    """One batch to prepare: positions in the list of files, and the seed of each sample."""

    positions: list[int]
    seeds: list[int]


class Loaded(NamedTuple):
    """A prepared batch: images [B, 3, H, W] or, of a transform that makes several views, [B, V, 3, H, W]."""

    positions: list[int]
    images: Tensor


class Failure(NamedTuple):
    """What went wrong in a worker, and where; `trace` is empty where the error says all there is to say."""

    error: Exception
    trace: str


class WorkerTraceback(Exception):  # noqa: N818 - not an error of its own: the place in the worker where one arose
    """Carries a worker's traceback as the cause of the error that the training process raises."""

    def __str__(self) -> str:
        return f"raised while a batch was prepared:\n{self.args[0]}"


class ImageFiles(Dataset):
    """Prepares whole batches: reads, transforms and stacks the files of a Task."""

    def __init__(
        self,
        paths: Sequence[str],
        transform: Callable[[Tensor], Tensor],
        scaled_decoding: bool = False,
        cache_dir: str = "",
        num_threads: int = 1,
    ):
        """scaled_decoding: see DecodedImages. cache_dir: folder for an ImageCache, "" for none; num_threads build it.

        Raises as ImageCache.
        """
        self.paths = paths
        resize, self._transform = split_resize(transform)
        images = DecodedImages(paths, resize, scaled_decoding)
        self._images = ImageCache(images, cache_dir, num_threads) if cache_dir else images

    def __getitem__(self, task: Task) -> Loaded | Failure:
        try:
            with restored_generators():
                images = [self._sample(position, seed) for position, seed in zip(*task, strict=True)]
            return Loaded(task.positions, self._stack(images, task.positions))
        except OSError as error:
            return Failure(error, "")
        except Exception as error:
            return Failure(_transportable(error), traceback.format_exc())

    def _sample(self, position: int, seed: int) -> Tensor:
        image = self._images[position]
        seed_generators(seed)
        return self._transform(image)

    def _stack(self, images: list[Tensor], positions: list[int]) -> Tensor:
        for image, position in zip(images, positions, strict=True):
            if image.shape != images[0].shape or image.dtype != images[0].dtype:
                first, other = self.paths[positions[0]], self.paths[position]
                raise ValueError(
                    f"The images of a batch must have one size and type: {first} is {_kind(images[0])}, {other} is "
                    f"{_kind(image)}. Put Resize among the transforms."
                )
        return torch.stack(images).contiguous()


def sample_seed(seed: int, epoch: int, iteration: int, place: int) -> int:
    """The seed of one sample, 64 bits: a hash, so that neighbouring samples share nothing.

    iteration: step in the epoch. place: position in the global batch.
    """
    digest = hashlib.blake2b(struct.pack("<4q", seed, epoch, iteration, place), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def seed_generators(seed: int) -> None:
    """Seed the CPU generators of torch, Python and NumPy.

    Not torch.manual_seed: it also queues a seed for CUDA, which a worker must not touch and which would be lost work.
    """
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@contextlib.contextmanager
def restored_generators() -> Iterator[None]:
    """Whatever the block does to the CPU generators of torch, Python and NumPy is undone at its end."""
    states = torch.default_generator.get_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


GRACE_SECONDS = 120  # how long a worker outlives a SIGTERM, for the training process to save and end it


def start_worker(_: int) -> None:
    """Runs first in every worker process, which torch has limited to one thread by then."""
    # Ctrl-C reaches the whole process group, and schedulers send SIGTERM to all of it; the training process alone
    # decides, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stay_for_a_while)


def _stay_for_a_while(number: int, frame: FrameType | None) -> None:
    """The first SIGTERM gives the training process time to finish its step and save; a second one ends the worker."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(GRACE_SECONDS)  # what nobody ends by then ends itself


def raise_failure(failure: Failure) -> None:
    """Raise a worker's error in the training process: type and text as they were."""
    raise failure.error from (WorkerTraceback(failure.trace) if failure.trace else None)


def _transportable(error: Exception) -> Exception:
    """The error without what ties it to this process, or one of the same text if its class cannot be rebuilt."""
    try:
        same = type(error)(*error.args)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return same if str(same) == str(error) else RuntimeError(f"{type(error).__name__}: {error}")


def _kind(image: Tensor) -> str:
    return f"{str(image.dtype).removeprefix('torch.')} {list(image.shape)}"
