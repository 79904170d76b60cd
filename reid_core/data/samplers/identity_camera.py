"""Batches of P identities with K images each, from as many cameras as the identity was seen by."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from reid_core.data.samplers.identity import IdentitySampler
from reid_core.registry import SAMPLER_REGISTRY


@SAMPLER_REGISTRY.register()
class IdentityCameraSampler(IdentitySampler):
    """P identities times K images, each identity's K images spread over its cameras as evenly as possible.

    As IdentitySampler, but the images of an identity are dealt so that the pairs of one camera within its groups are
    as few as they can be: every group has the same number of images of a camera, or one more; and the n mod K images
    that sit out the pass are of the cameras with most images. In the one group of an identity with fewer than K images
    the cameras' shares differ by at most one, and so do the images' shares of a camera.
    """

    def __init__(
        self,
        targets: Tensor | Sequence[int],
        camids: Tensor | Sequence[int],
        batch_size: int,
        num_instances: int,
        seed: int,
    ):
        """camids: int64 [N], the camera of each image of the training set. The others: as IdentitySampler.

        Raises ValueError as IdentitySampler, and for another number of cameras than of targets.
        """
        super().__init__(targets, batch_size, num_instances, seed)
        camids = np.array(camids.cpu().numpy() if isinstance(camids, Tensor) else camids, dtype=np.int64)
        if camids.shape != self.targets.shape:
            raise ValueError(
                f"There must be one camera for each of the {len(self.targets)} images, got {camids.shape}."
            )
        self.camids = np.unique(camids, return_inverse=True)[1]

    def deal(
        self, positions: np.ndarray, identities: np.ndarray, counts: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        size, number = self.num_instances, self.num_groups(counts)
        small = counts < size
        num_dealt = np.where(small, 0, number * size)  # of each identity; small ones come separately
        # A block is what one camera has of one identity; the blocks of an identity in random order, each shuffled.
        pairs = identities * (self.camids.max() + 1) + self.camids[positions]
        blocks, block = np.unique(pairs, return_inverse=True)
        key = rng.permutation(len(blocks))[block]
        order = rng.permutation(len(positions))
        order = order[np.lexsort((key[order], identities[order]))]
        positions, identities, pairs = positions[order], identities[order], pairs[order]
        block_first = np.flatnonzero(np.diff(pairs, prepend=-1))
        block_counts = np.diff(block_first, append=len(pairs))

        groups = np.empty((number.sum(), size), dtype=np.int64)
        is_small = np.repeat(small, number)
        groups[is_small] = positions[self._repeat_evenly(small, identities[block_first], block_first, block_counts)]
        # The first image of each block, then the second ...: those behind the last whole group sit out.
        by_depth = np.lexsort((_places(block_counts), identities))
        kept = np.zeros(len(positions), dtype=bool)
        kept[by_depth] = _places(counts) < np.repeat(num_dealt, counts)
        positions, identities = positions[kept], identities[kept]
        # Dealt like cards, block after block; the first card goes to a random group.
        shift = rng.integers(0, number)
        group = (_places(num_dealt) + shift[identities]) % number[identities]
        groups[~is_small] = positions[np.lexsort((group, identities))].reshape(-1, size)
        return groups

    def _repeat_evenly(
        self, small: np.ndarray, block_identity: np.ndarray, block_first: np.ndarray, block_counts: np.ndarray
    ) -> np.ndarray:
        """Of each small identity K indices into the images sorted by block: its blocks in turn, each cyclic."""
        cameras = np.bincount(block_identity, minlength=len(small))
        first_block = np.cumsum(cameras) - cameras
        turn = np.arange(self.num_instances)
        block = first_block[small, None] + turn % cameras[small, None]
        return block_first[block] + turn // cameras[small, None] % block_counts[block]

    @classmethod
    def from_config(cls, cfg: Any, training_set: Any) -> dict:
        return {**super().from_config(cfg, training_set), "camids": training_set.camids}


def _places(counts: np.ndarray) -> np.ndarray:
    """0..n-1 for each n of `counts`, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
