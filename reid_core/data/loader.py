"""Loaders: batches for training, determined sample by sample, and images in order for encoding.

What a sample looks like depends on (seed, epoch, iteration, place in the global batch) and on nothing else: not on
the number of workers, nor on how many processes share a batch, nor on where a run was resumed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from reid_core.data.device_copies import copies_to
from reid_core.data.image_table import ImageTable
from reid_core.data.samplers.base import BatchSampler
from reid_core.data.training_set import TrainingSet
from reid_core.data.transforms import build_transforms
from reid_core.data.worker import ImageFiles, Task, sample_seed
from reid_core.data.worker_pool import WorkerPool
from reid_core.registry import SAMPLER_REGISTRY
from reid_core.structures import Batch, ReIDImage

Transform = Callable[[Tensor], Tensor]


class TrainLoader:
    """Training batches of one process: its contiguous share of every global batch that the sampler yields.

    The workers start with the first epoch and stay until `close`.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        sampler: BatchSampler,
        transform: Transform,
        iterations_per_epoch: int = 0,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
        seed: int = 0,
        scaled_decoding: bool = False,
        cache_dir: str = "",
        device: torch.device | None = None,
    ):
        """transform: image uint8 [3, H, W] -> [3, H, W], or [V, 3, H, W] for several views of it (key "views").

        iterations_per_epoch: the sampler restarts as needed to fill it; 0: one pass of the sampler.
        num_workers: processes that decode, 0 for none. prefetch_factor: batches that each prepares ahead.
        scaled_decoding: decode JPEGs that are much larger than needed at a part of their size.
        cache_dir: folder for a cache of the decoded images, "" for none; built here if it is not there.
        device: CUDA device that the images (not the other columns) are copied to while it computes; None: none.
        Raises ValueError if the batch cannot be shared equally by `world_size` processes, OSError as ImageCache.
        """
        if sampler.batch_size % world_size:
            raise ValueError(
                f"DATALOADER.BATCH_SIZE {sampler.batch_size} cannot be shared equally by {world_size} processes; make "
                "it a multiple."
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}), got {rank}.")
        if iterations_per_epoch < 0:
            raise ValueError(f"SOLVER.ITERATIONS_PER_EPOCH must not be negative, got {iterations_per_epoch}.")
        self.training_set, self.sampler = training_set, sampler
        self.targets: Tensor = training_set.targets
        self._idle = False
        self.seed, self._iterations, self._pin_memory = seed, iterations_per_epoch, pin_memory
        share = sampler.batch_size // world_size
        self._share = slice(rank * share, (rank + 1) * share)
        self._copies = copies_to(device)
        files = ImageFiles(training_set.paths, transform, scaled_decoding, cache_dir, num_workers)
        self._pool = WorkerPool(files, num_workers, prefetch_factor, pin_memory, persistent_workers=True)

    @property
    def iterations_per_epoch(self) -> int:
        """Steps in an epoch; if an epoch is one pass of the sampler, the most that it can have (see `length`)."""
        return self._iterations or self.sampler.max_batches

    def length(self, epoch: int) -> int:
        """Steps in this epoch, exact with the present targets; 0 if they are None. With an identity sampler passes
        differ in length."""
        if self._idle:
            return 0
        return self._iterations or self.sampler.length(epoch, restart=0)

    def set_targets(self, targets: Tensor | None, sample_by: Tensor | None = None) -> None:
        """Replace the labels of the training set, for sampling and in the batches; between epochs.

        targets: int64 [N]; -1 leaves an image out. sample_by: other labels for the sampler (int64 [N]), where those in
        the batches are not what batches are balanced over. Raises ValueError, and changes nothing, as
        BatchSampler.set_targets. targets None: there is nothing to train on; epochs have no batch until some are set.
        """
        if targets is None:
            self.targets, self._idle = torch.full_like(self.targets, -1), True
            return
        self.sampler.set_targets(targets if sample_by is None else sample_by)
        self.targets, self._idle = torch.as_tensor(targets, dtype=torch.int64).clone(), False

    def epoch(self, epoch: int, first_iteration: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from `first_iteration` (counted from 0) on; as they would be in a full epoch.

        Keys: images (or views), targets, camids, viewids, indices. Starting another epoch ends an unfinished one.
        Raises ValueError if the epoch is shorter than first_iteration, OSError naming a file that cannot be decoded,
        RuntimeError if a worker process died.
        """
        if first_iteration and first_iteration > self.length(epoch):
            raise ValueError(
                f"Epoch {epoch} has {self.length(epoch)} iterations, cannot go on at {first_iteration}; batch size, "
                "training set or SOLVER.ITERATIONS_PER_EPOCH must have changed."
            )
        for loaded in self._pool.run(self._tasks(epoch, first_iteration)):
            indices = torch.tensor(loaded.positions, dtype=torch.int64)
            columns = {
                "targets": self.targets[indices],
                "camids": self.training_set.camids[indices],
                "viewids": self.training_set.viewids[indices],
                "indices": indices,
            }
            if self._pin_memory:
                columns = {name: column.pin_memory() for name, column in columns.items()}
            yield Batch(**{_image_key(loaded.images): self._copies(loaded.images)}, **columns)

    def close(self) -> None:
        """End the worker processes; a later epoch starts new ones."""
        self._pool.close()

    def _tasks(self, epoch: int, first_iteration: int) -> Iterator[Task]:
        for iteration, batch in enumerate(self._global_batches(epoch)):
            if iteration >= first_iteration:
                places = range(len(batch))[self._share]
                seeds = [sample_seed(self.seed, epoch, iteration, place) for place in places]
                yield Task(batch[self._share], seeds)

    def _global_batches(self, epoch: int) -> Iterator[list[int]]:
        if self._idle:
            return
        if not self._iterations:
            yield from self.sampler.batches(epoch, 0)
            return
        left, restart = self._iterations, 0
        while left:
            for batch in self.sampler.batches(epoch, restart):
                yield batch
                left -= 1
                if not left:
                    return
            restart += 1


class TestLoader:
    """Batches of records in order: one process's contiguous share of them. Can be iterated again and again."""

    __test__ = False  # the name means something else to pytest

    def __init__(
        self,
        records: Sequence[ReIDImage],
        transform: Transform,
        batch_size: int,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
        persistent_workers: bool = False,
        scaled_decoding: bool = False,
        cache_dir: str = "",
        device: torch.device | None = None,
    ):
        """records: a split of a dataset, or any sequence of records. batch_size: per process; the last may be short.

        persistent_workers: keep the worker processes (and their memory) between passes.
        """
        if batch_size < 1:
            raise ValueError(f"TEST.BATCH_SIZE must be positive, got {batch_size}.")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}), got {rank}.")
        self.records = ImageTable.from_records(records)
        self.batch_size = batch_size
        self.shard = range(len(self.records) * rank // world_size, len(self.records) * (rank + 1) // world_size)
        self._columns = {
            "targets": torch.from_numpy(self.records.pids),
            "camids": torch.from_numpy(self.records.camids),
            "viewids": torch.from_numpy(self.records.viewids),
        }
        self._persistent = persistent_workers
        self._copies = copies_to(device)
        files = ImageFiles(self.records.paths, transform, scaled_decoding, cache_dir, num_workers)
        self._pool = WorkerPool(files, num_workers, prefetch_factor, pin_memory, persistent_workers)

    def __len__(self) -> int:
        """Batches of this process."""
        return -(-len(self.shard) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """Batches with images, targets (the records' pids), camids, viewids and indices (positions in `records`)."""
        for loaded in self._pool.run(self._tasks()):
            indices = torch.tensor(loaded.positions, dtype=torch.int64)
            columns = {name: column[indices] for name, column in self._columns.items()}
            yield Batch(**{_image_key(loaded.images): self._copies(loaded.images)}, **columns, indices=indices)

    def close(self) -> None:
        """End the worker processes, if they were to stay."""
        self._pool.close()

    def _tasks(self) -> Iterator[Task]:
        for start in range(0, len(self.shard), self.batch_size):
            positions = list(self.shard[start : start + self.batch_size])
            yield Task(positions, [sample_seed(0, 0, 0, position) for position in positions])


def build_train_loader(cfg: Any, training_set: TrainingSet, rank: int = 0, world_size: int = 1) -> TrainLoader:
    """The loader that DATALOADER, INPUT and SOLVER.ITERATIONS_PER_EPOCH describe."""
    return TrainLoader(
        training_set,
        SAMPLER_REGISTRY.build(cfg.DATALOADER.SAMPLER, cfg, training_set=training_set),
        build_transforms(cfg, train=True),
        iterations_per_epoch=cfg.SOLVER.ITERATIONS_PER_EPOCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        prefetch_factor=cfg.DATALOADER.PREFETCH_FACTOR,
        rank=rank,
        world_size=world_size,
        seed=cfg.SEED,
        scaled_decoding=cfg.INPUT.SCALED_DECODING_TRAIN,
        cache_dir=cfg.DATALOADER.CACHE_DIR,
        **_device_options(cfg),
    )


def build_test_loader(cfg: Any, records: Sequence[ReIDImage], rank: int = 0, world_size: int = 1) -> TestLoader:
    """A loader of `records` with the test transforms, in batches of TEST.BATCH_SIZE per process."""
    return TestLoader(
        records,
        build_transforms(cfg, train=False),
        cfg.TEST.BATCH_SIZE,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        prefetch_factor=cfg.DATALOADER.PREFETCH_FACTOR,
        rank=rank,
        world_size=world_size,
        scaled_decoding=cfg.INPUT.SCALED_DECODING_TEST,
        cache_dir=cfg.DATALOADER.CACHE_DIR,
        **_device_options(cfg),
    )


def _device_options(cfg: Any) -> dict:
    """On CUDA batches are pinned, and their images copied to the device that this process has made the current one."""
    on_cuda = torch.cuda.is_available() and cfg.DEVICE != "cpu"
    return {"pin_memory": on_cuda, "device": torch.device("cuda", torch.cuda.current_device()) if on_cuda else None}


def _image_key(images: Tensor) -> str:
    return "images" if images.dim() == 4 else "views"
