"""Leaving undecodable images out of a dataset, for INPUT.ON_BAD_IMAGE "skip".

Every file is decoded once, before anything is made of the dataset: labels, batches, features and the protocol's lists
then agree on what there is, whatever the number of processes and workers, and a resumed run sees the same. Nothing is
replaced by another image. What turns bad later is an error, as it is without skipping.
"""

import copy
import time
from collections.abc import Mapping, Sequence

import numpy as np

from reid_core.config import ConfigError
from reid_core.data.datasets.base import SPLITS, ReIDDataset
from reid_core.data.images import reason_of_refusal
from reid_core.data.threads import map_in_threads
from reid_core.utils import comm
from reid_core.utils.logging import get_logger

POLICIES = ("raise", "skip")
SkippedImages = dict[str, list[str]]
"""Split -> one sentence for each image left out of it: path and reason."""


def apply_bad_image_policy(
    datasets: Mapping[str, ReIDDataset], policy: str, num_threads: int = 1
) -> dict[str, ReIDDataset]:
    """The datasets under INPUT.ON_BAD_IMAGE. Every process has to call it.

    policy: "raise" returns them as they are; "skip" decodes every image, by `num_threads` threads in each process, and
    returns datasets without those that cannot be, which the log lists (and again with `list_skipped`).
    Raises ConfigError for another policy, ValueError if no image of a split can be decoded.
    """
    if policy not in POLICIES:
        raise ConfigError(f"INPUT.ON_BAD_IMAGE must be 'raise' or 'skip', got '{policy}'.")
    if policy == "raise":
        return dict(datasets)
    remaining = {name: _leave_out(dataset, num_threads) for name, dataset in datasets.items()}
    for dataset in remaining.values():
        list_skipped(dataset)
    return remaining


def find_bad_images(paths: Sequence[str], num_threads: int = 1) -> dict[int, str]:
    """Position and reason of every file that `read_image` refuses, in order. Every process has to call it.

    The processes share the work, and all of them get the whole.
    """
    mine = range(comm.rank(), len(paths), comm.world_size())
    reasons = map_in_threads(lambda position: reason_of_refusal(paths[position]), mine, num_threads)
    bad = {position: reason for position, reason in zip(mine, reasons, strict=True) if reason}
    return dict(sorted(entry for part in comm.all_gather_objects(bad) for entry in part.items()))


def skipped_images(dataset: ReIDDataset) -> SkippedImages:
    """What was left out of a dataset; empty if nothing was looked for."""
    return getattr(dataset, "skipped", {})


def count_skipped(dataset: ReIDDataset) -> str:
    """For the log of a result: "3 of its query, 1 of its gallery images were skipped ..."; "" for none."""
    counts = [f"{len(reasons)} of its {split}" for split, reasons in skipped_images(dataset).items() if reasons]
    return f"{', '.join(counts)} images were skipped, as they cannot be decoded" if counts else ""


def list_skipped(dataset: ReIDDataset) -> None:
    """Log what was left out of the dataset, each image with its reason, as one warning; nothing if it is whole.

    All processes know the same, the main one says it.
    """
    if (counts := count_skipped(dataset)) and comm.is_main():
        reasons = [f"  {split}: {text}" for split, texts in skipped_images(dataset).items() for text in texts]
        get_logger().warning("%s: %s:\n%s", dataset.name, counts, "\n".join(reasons))


def _leave_out(dataset: ReIDDataset, num_threads: int) -> ReIDDataset:
    began, remaining = time.perf_counter(), copy.copy(dataset)
    remaining.skipped = {}
    for split in SPLITS:
        table = getattr(dataset, split)
        bad = find_bad_images(table.paths, num_threads)
        if bad and len(bad) == len(table):
            raise ValueError(
                f"{dataset.name}: none of the {len(table)} images of the {split} split can be decoded, the first "
                f"because: {bad[0]}"
            )
        remaining.skipped[split] = list(bad.values())
        if bad:
            setattr(remaining, split, table.select(np.setdiff1d(np.arange(len(table)), list(bad))))
    checked = sum(len(getattr(dataset, split)) for split in SPLITS)
    get_logger().info(f"{dataset.name}: {checked} images checked in {time.perf_counter() - began:.0f} s.")
    return remaining
