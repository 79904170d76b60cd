"""Batches of P identities with K images each."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from reid_core.data.samplers.base import BatchSampler
from reid_core.registry import SAMPLER_REGISTRY


@SAMPLER_REGISTRY.register()
class IdentitySampler(BatchSampler):
    """P identities times K images ("PK sampling", Hermans et al. 2017); a batch holds each identity's images together.

    At the start of a pass the images of every identity are shuffled and dealt into groups of K. An identity with
    fewer than K images gives one group, drawn with replacement; of the others the n mod K surplus images sit out the
    pass. Each batch takes one group each of P identities, drawn at random from those that have a group left; the
    pass ends when fewer than P identities have.

    With clusters for targets it is the balanced sampler of pseudo labels, with pairs of cluster and camera that of
    camera proxies (see `set_targets`).
    """

    def __init__(self, targets: Tensor | Sequence[int], batch_size: int, num_instances: int, seed: int):
        """targets, batch_size, seed: as BatchSampler. num_instances: K.

        Raises ValueError if K does not divide the batch or there are fewer than P = batch_size / K identities.
        """
        if num_instances < 1 or batch_size % num_instances:
            raise ValueError(
                f"DATALOADER.BATCH_SIZE {batch_size} is not a multiple of DATALOADER.NUM_INSTANCES {num_instances}; "
                "a batch holds whole identities."
            )
        self.num_instances = num_instances
        super().__init__(targets, batch_size, seed)

    @property
    def identities_per_batch(self) -> int:
        return self.batch_size // self.num_instances

    def check(self, targets: np.ndarray) -> None:
        identities = len(np.unique(targets[targets >= 0]))
        if identities < self.identities_per_batch:
            raise ValueError(
                f"A batch of {self.batch_size} with {self.num_instances} images an identity needs "
                f"{self.identities_per_batch} identities, the labels have {identities}. Lower DATALOADER.BATCH_SIZE "
                "or raise DATALOADER.NUM_INSTANCES; pseudo labels may also be too few clusters."
            )

    def count_batches(self) -> int:
        counts = np.unique(self.targets[self.targets >= 0], return_counts=True)[1]
        return int(self.num_groups(counts).sum()) // self.identities_per_batch

    def draw(self, epoch: int, restart: int) -> Iterator[list[int]]:
        rng = self.generator(epoch, restart)
        labelled = np.flatnonzero(self.targets >= 0)
        identities, counts = np.unique(self.targets[labelled], return_inverse=True, return_counts=True)[1:]
        groups = self.deal(labelled, identities, counts, rng).tolist()
        left = self.num_groups(counts)
        next_group, left = (np.cumsum(left) - left).tolist(), left.tolist()
        available = list(range(len(left)))  # identities with groups left, in no particular order
        while len(available) >= self.identities_per_batch:
            batch: list[int] = []
            for identity in _draw(available, self.identities_per_batch, rng):
                batch += groups[next_group[identity]]
                next_group[identity] += 1
                left[identity] -= 1
            # Those drawn stand at the end; the exhausted ones among them are dropped.
            tail = len(available) - self.identities_per_batch
            available[tail:] = [identity for identity in available[tail:] if left[identity]]
            yield batch

    def num_groups(self, counts: np.ndarray) -> np.ndarray:
        """Groups that identities with `counts` images give in a pass: int64 [C] -> int64 [C]."""
        return np.maximum(counts // self.num_instances, 1)

    def deal(
        self, positions: np.ndarray, identities: np.ndarray, counts: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The groups of a pass: int64 [sum of num_groups(counts), K], positions; those of an identity together.

        positions: int64 [M], the images with a label. identities: int64 [M], of each the rank of its label in 0..C-1.
        counts: int64 [C], images of each identity.
        """
        size = self.num_instances
        order = rng.permutation(len(positions))
        order = order[np.argsort(identities[order], kind="stable")]  # grouped by identity, shuffled within it
        first, number = np.cumsum(counts) - counts, self.num_groups(counts)
        small = counts < size
        drawn = first[small, None] + rng.integers(0, counts[small, None], size=(int(small.sum()), size))
        place = np.arange(len(order)) - np.repeat(first, counts)
        dealt = place < np.repeat(np.where(small, 0, number * size), counts)
        groups = np.empty((number.sum(), size), dtype=np.int64)
        is_small = np.repeat(small, number)
        groups[is_small] = positions[order[drawn]]
        groups[~is_small] = positions[order[dealt]].reshape(-1, size)
        return groups

    @classmethod
    def from_config(cls, cfg: Any, training_set: Any) -> dict:
        return {**super().from_config(cfg, training_set), "num_instances": cfg.DATALOADER.NUM_INSTANCES}


def _draw(items: list[int], count: int, rng: np.random.Generator) -> list[int]:
    """`count` items without replacement; moves them to the end of the list (Fisher-Yates from behind)."""
    ends = np.arange(len(items), len(items) - count, -1)
    for end, place in zip(ends.tolist(), rng.integers(0, ends).tolist(), strict=True):
        items[place], items[end - 1] = items[end - 1], items[place]
    return items[-count:]
