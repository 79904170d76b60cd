"""What a sampler of training batches is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor


class BatchSampler(ABC):
    """Yields the global batches of one pass, each a list of positions in the training set.

    A pass is fully determined by (seed, epoch, restart, targets): no generator is kept between passes, so that a run
    can be resumed anywhere and every process can compute the same batches for itself.
    """

    def __init__(self, targets: Tensor | Sequence[int], batch_size: int, seed: int):
        """targets: int64 [N], the label of each image of the training set; -1 leaves an image out.

        batch_size: images in a batch over all processes. Raises ValueError if no batch can be made.
        """
        if batch_size < 1:
            raise ValueError(f"DATALOADER.BATCH_SIZE must be positive, got {batch_size}.")
        if seed < 0:
            raise ValueError(f"SEED must not be negative, got {seed}.")
        self.batch_size, self.seed = batch_size, seed
        self.set_targets(targets)

    def set_targets(self, targets: Tensor | Sequence[int]) -> None:
        """Replace the labels (pseudo labels of an epoch); counts from the next pass on.

        Raises ValueError for labels below -1, for another number of labels than before and if no batch can be made.
        """
        values = targets.cpu().numpy() if isinstance(targets, Tensor) else targets
        targets = np.array(values, dtype=np.int64)  # a copy: the caller may change his own
        if targets.ndim != 1:
            raise ValueError(f"targets must have one dimension, got shape {targets.shape}.")
        before = getattr(self, "targets", targets)
        if len(targets) != len(before):
            raise ValueError(f"The training set has {len(before)} images, got {len(targets)} targets.")
        if len(targets) and targets.min() < -1:
            raise ValueError(f"A target is a label from 0, or -1 to leave an image out; got {targets.min()}.")
        if not (targets >= 0).any():
            raise ValueError(f"No image to sample: {len(targets)} targets, none of them a label (-1 leaves out).")
        self.check(targets)
        self.targets: np.ndarray = targets

    def check(self, targets: np.ndarray) -> None:  # noqa: B027 - a sampler without further conditions needs none
        """Raise ValueError if no batch can be made of these labels. targets: int64 [N], at least one not -1."""

    @abstractmethod
    def batches(self, epoch: int, restart: int) -> Iterator[list[int]]:
        """The batches of pass number `restart` of an epoch, at least one."""

    @property
    @abstractmethod
    def max_batches(self) -> int:
        """The largest number of batches that a pass can have with the present labels."""

    def length(self, epoch: int, restart: int) -> int:
        """The number of batches of one pass, exact (a pass is drawn to count it)."""
        return sum(1 for _ in self.batches(epoch, restart))

    def generator(self, epoch: int, restart: int) -> np.random.Generator:
        """The random numbers of one pass."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, epoch, restart))))

    @classmethod
    def from_config(cls, cfg: Any, training_set: Any) -> dict:
        return {"targets": training_set.targets, "batch_size": cfg.DATALOADER.BATCH_SIZE, "seed": cfg.SEED}
