"""Batches of images drawn uniformly."""

from collections.abc import Iterator

import numpy as np

from reid_core.data.samplers.base import BatchSampler
from reid_core.registry import SAMPLER_REGISTRY


@SAMPLER_REGISTRY.register()
class RandomSampler(BatchSampler):
    """Every image with a label at most once a pass, in random order; the last, incomplete batch is dropped."""

    def check(self, targets: np.ndarray) -> None:
        images = int((targets >= 0).sum())
        if images < self.batch_size:
            raise ValueError(
                f"A batch of {self.batch_size} (DATALOADER.BATCH_SIZE) is more than the {images} images to train on."
            )

    def count_batches(self) -> int:
        return int((self.targets >= 0).sum()) // self.batch_size

    def draw(self, epoch: int, restart: int) -> Iterator[list[int]]:
        order = self.generator(epoch, restart).permutation(np.flatnonzero(self.targets >= 0))
        for number in range(self.max_batches):
            yield order[number * self.batch_size : (number + 1) * self.batch_size].tolist()

    def length(self, epoch: int, restart: int) -> int:
        return self.max_batches
