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

        All targets may be -1: the labels come later (unsupervised training), and until `set_targets` has been called
        there is no pass. batch_size: images in a batch over all processes. Raises ValueError if no batch can be made.
        """
        if batch_size < 1:
            raise ValueError(f"DATALOADER.BATCH_SIZE must be positive, got {batch_size}.")
        if seed < 0:
            raise ValueError(f"SEED must not be negative, got {seed}.")
        self.batch_size, self.seed = batch_size, seed
        self.targets: np.ndarray = _checked_targets(targets)
        self._counted: tuple[int, int, int] | None = None  # epoch, restart and length of the pass counted last
        if not len(self.targets):
            raise ValueError("No image to sample: 0 targets.")
        if self.has_labels:
            self.check(self.targets)

    @property
    def has_labels(self) -> bool:
        """False as long as every target is -1."""
        return bool((self.targets >= 0).any())

    def set_targets(self, targets: Tensor | Sequence[int]) -> None:
        """Replace the labels (pseudo labels of an epoch); counts from the next pass on.

        targets: int64 [N], -1 leaves an image out; labels need not be consecutive.
        Raises ValueError for labels below -1, for another number of labels than before and if no batch can be made;
        the former labels then stay.
        """
        targets = _checked_targets(targets)
        if len(targets) != len(self.targets):
            raise ValueError(f"The training set has {len(self.targets)} images, got {len(targets)} targets.")
        if not (targets >= 0).any():
            raise ValueError(f"No image to sample: {len(targets)} targets, none of them a label (-1 leaves out).")
        self.check(targets)
        self.targets, self._counted = targets, None

    def check(self, targets: np.ndarray) -> None:  # noqa: B027 - a sampler without further conditions needs none
        """Raise ValueError if no batch can be made of these labels. targets: int64 [N], at least one not -1."""

    def batches(self, epoch: int, restart: int) -> Iterator[list[int]]:
        """The batches of pass number `restart` of an epoch, at least one. Raises ValueError if there are no labels."""
        self._require_labels()
        return self.draw(epoch, restart)

    @property
    def max_batches(self) -> int:
        """The largest number of batches that a pass can have with the present labels; ValueError if there are none."""
        self._require_labels()
        return self.count_batches()

    def length(self, epoch: int, restart: int) -> int:
        """The number of batches of one pass, exact. ValueError if there are no labels.

        A pass is drawn to count it, once for many questions about the same one.
        """
        if self._counted is None or self._counted[:2] != (epoch, restart):
            self._counted = epoch, restart, sum(1 for _ in self.batches(epoch, restart))
        return self._counted[2]

    @abstractmethod
    def draw(self, epoch: int, restart: int) -> Iterator[list[int]]:
        """What `batches` gives; there are labels, and `check` has accepted them."""

    @abstractmethod
    def count_batches(self) -> int:
        """What `max_batches` is; there are labels, and `check` has accepted them."""

    def _require_labels(self) -> None:
        if not self.has_labels:
            raise ValueError(
                f"All {len(self.targets)} targets are -1: there are no labels to sample by yet. Set them first "
                "(set_targets), e.g. with pseudo labels at the start of the epoch."
            )

    def generator(self, epoch: int, restart: int) -> np.random.Generator:
        """The random numbers of one pass."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, epoch, restart))))

    @classmethod
    def from_config(cls, cfg: Any, training_set: Any) -> dict:
        return {"targets": training_set.targets, "batch_size": cfg.DATALOADER.BATCH_SIZE, "seed": cfg.SEED}


def _checked_targets(targets: Tensor | Sequence[int]) -> np.ndarray:
    """A copy, int64 [N], for the caller may change his own. Raises ValueError for what cannot be labels."""
    values = np.array(targets.cpu().numpy() if isinstance(targets, Tensor) else targets)
    if values.ndim != 1:
        raise ValueError(f"targets must have one dimension, got shape {values.shape}.")
    if len(values) and values.dtype.kind not in "iu":
        raise ValueError(f"targets must be whole numbers, got {values.dtype}.")
    if len(values) and values.min() < -1:
        raise ValueError(f"A target is a label from 0, or -1 to leave an image out; got {values.min()}.")
    return values.astype(np.int64, copy=False)
