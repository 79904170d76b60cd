"""Batches of features that were encoded once: for stages that train nothing of the image encoder."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from reid_core.structures import Batch


class FeatureLoader:
    """Goes through cached features in random order; the last batch of a pass may be short, none is empty.

    Batches are determined by (seed, epoch, restart) as those of a `BatchSampler`. Every process gets the whole batch:
    there is nothing to decode, and losses over all pairs need it whole.
    """

    def __init__(self, targets: Tensor, batch_size: int, iterations_per_epoch: int = 0, seed: int = 0):
        """targets: int64 [N], labels. iterations_per_epoch: passes restart as needed to fill it; 0: one pass.

        Raises ValueError if there is no feature or the batch size is not positive.
        """
        if batch_size < 1:
            raise ValueError(f"The batch size of cached features must be positive, got {batch_size}.")
        if not len(targets):
            raise ValueError("There is no image to take features of.")
        if iterations_per_epoch < 0:
            raise ValueError(f"ITERATIONS_PER_EPOCH must not be negative, got {iterations_per_epoch}.")
        self.targets = targets.clone()
        self.batch_size, self.seed, self._iterations = batch_size, seed, iterations_per_epoch
        self.features: Tensor | None = None

    def set_features(self, features: Tensor) -> None:
        """The features [N, D] float, on the device that trains with them. Raises ValueError for another number."""
        if len(features) != len(self.targets):
            raise ValueError(f"There are {len(self.targets)} targets, got {len(features)} features.")
        self.features = features

    def length(self, epoch: int) -> int:
        """Steps in an epoch."""
        return self._iterations or -(-len(self.targets) // self.batch_size)

    def epoch(self, epoch: int, first_iteration: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first_iteration` on; keys features, targets, identities, slots, indices.

        Raises ValueError before `set_features` and if the epoch is shorter than `first_iteration`.
        """
        if first_iteration > self.length(epoch):
            raise ValueError(
                f"Epoch {epoch} has {self.length(epoch)} iterations, cannot go on at {first_iteration}; the batch size "
                "or the training set must have changed."
            )
        for iteration, indices in enumerate(self._batches(epoch)):
            if iteration < first_iteration:
                continue
            if self.features is None:
                raise ValueError("The features are not there yet: call set_features first.")
            targets = self.targets[indices]
            identities, slots = targets.unique(return_inverse=True)
            yield Batch(
                features=self.features[indices.to(self.features.device)],
                targets=targets,
                identities=identities,
                slots=slots,
                indices=indices,
            )

    def close(self) -> None:
        """Let go of the features."""
        self.features = None

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        left, restart = self.length(epoch), 0
        while left:
            seeds = np.random.SeedSequence((self.seed, epoch, restart))
            order = np.random.Generator(np.random.PCG64(seeds)).permutation(len(self.targets))
            for indices in torch.from_numpy(order).split(self.batch_size)[:left]:
                yield indices
                left -= 1
            restart += 1
