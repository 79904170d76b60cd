"""The training set: one or several datasets' train splits under labels 0..C-1. Labels are made here and only here."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_core.data.datasets.base import UNLABELLED, ReIDDataset
from reid_core.data.datasets.listing import printable
from reid_core.data.image_table import ImageTable, PathColumn
from reid_core.utils.logging import get_logger

_EXAMPLES = 5


class TrainingSet:
    """The joined train splits; identities and cameras of different datasets are kept apart, viewpoints are shared.

    targets: int64 [N], the label: the rank of (dataset name, pid), so that it depends neither on the order in which
    the datasets are given nor on the machine; -1 for an image without an identity (pid -1). camids, viewids: int64
    [N]; cameras of the datasets follow each other in the order of their names. paths: sequence of N file names.
    images: the same as an ImageTable with targets for pids, to be read by a TestLoader (features of the training set).
    num_identities, num_cameras, num_views: counts C; cameras and viewpoints are those of all splits, so that an
    embedding per camera has a row for those seen only in the test images too.
    label_map: "dataset:pid" of every label, in the order of labels; of a user's own data with the identity's name.
    camera_offsets: what is added to the camids of each dataset, by its name (also to those of its test images).
    names_cameras: whether the camids tell anything about the pictures, in all of the datasets.

    use_labels False: a run that is not told the identities: all targets are -1, num_identities is 0, label_map empty.
    known_labels: int64 [N], what targets would be with use_labels; for measuring how good pseudo labels are.
    """

    def __init__(self, datasets: Sequence[ReIDDataset], use_labels: bool = True):
        """Raises ValueError if there is no dataset, one is given twice, or no image has a label that is needed."""
        names = [dataset.name for dataset in datasets]
        if not names:
            raise ValueError("A training set needs at least one dataset; DATASETS.TRAIN is empty.")
        if len(set(names)) < len(names):
            raise ValueError(f"Each dataset can be trained on once, got {', '.join(names)} in DATASETS.TRAIN.")
        ordered = sorted(datasets, key=lambda dataset: dataset.name)
        cameras = np.cumsum([0, *(dataset.num_cameras for dataset in ordered)]).tolist()
        self.camera_offsets = {dataset.name: first for dataset, first in zip(ordered, cameras, strict=False)}
        self.num_cameras: int = cameras[-1]
        self.num_views = max(dataset.num_views for dataset in datasets)

        self.names_cameras = all(dataset.names_cameras for dataset in datasets)

        label_map, labels_of = [], {}
        for dataset in ordered:
            labels_of[dataset.name], pids = _labels(dataset.train.pids, first=len(label_map))
            names_of = dataset.pid_values
            label_map += [f"{dataset.name}:{printable(names_of[pid]) if names_of else pid}" for pid in pids]
        labels = np.concatenate([labels_of[name] for name in names])
        self.known_labels: Tensor = torch.from_numpy(labels)
        self.label_map: list[str] = label_map if use_labels else []
        self.num_identities = len(self.label_map)
        if use_labels:
            _check_labels(labels, ", ".join(names))

        self.images = ImageTable(
            PathColumn.concatenate([dataset.train.paths for dataset in datasets]),
            labels if use_labels else np.full_like(labels, -1),
            np.concatenate([dataset.train.camids + self.camera_offsets[dataset.name] for dataset in datasets]),
            np.concatenate([dataset.train.viewids for dataset in datasets]),
        )
        self.targets: Tensor = torch.from_numpy(self.images.pids)
        self.camids: Tensor = torch.from_numpy(self.images.camids)
        self.viewids: Tensor = torch.from_numpy(self.images.viewids)
        self._sizes: np.ndarray | None = None

    @property
    def paths(self) -> PathColumn:
        return self.images.paths

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """sha256 over every image's identity, file name below its dataset's folder, camera, viewpoint and file size.

        Equal on every machine that holds the same data in the same layout; another if an image is added, removed,
        renamed or replaced by one of another size. Raises FileNotFoundError if an image has gone.
        """
        digest = hashlib.sha256("\n".join(self.label_map).encode())
        for index in range(len(self)):
            digest.update(os.fsencode(self.paths.relative(index)) + b"\n")
        for column in (self.images.pids, self.images.camids, self.images.viewids, self._file_sizes()):
            digest.update(column.astype("<i8").tobytes())
        return digest.hexdigest()

    def state(self) -> dict:
        """What `describe_changes` compares with, in plain types: for a checkpoint."""
        labelled = self.images.pids >= 0
        counts = np.bincount(self.images.pids[labelled], minlength=self.num_identities)
        size = np.zeros(self.num_identities, dtype=np.int64)
        np.add.at(size, self.images.pids[labelled], self._file_sizes()[labelled])
        return {
            "fingerprint": self.fingerprint(),
            "images": len(self),
            "label_map": list(self.label_map),
            "images_of_label": counts.tolist(),
            "bytes_of_label": size.tolist(),
            "num_cameras": self.num_cameras,
            "num_views": self.num_views,
            "camera_offsets": dict(self.camera_offsets),
        }

    def describe_changes(self, saved_state: dict) -> list[str]:
        """Sentences on how this training set differs from the one that `state()` was taken of; none if it does not."""
        now = self.state()
        if now["fingerprint"] == saved_state["fingerprint"]:
            return []
        before_names, now_names = set(saved_state["label_map"]), set(self.label_map)
        changes = _count_change(saved_state.get("images", sum(saved_state["images_of_label"])), len(self))
        changes += _name_change("gone", [name for name in saved_state["label_map"] if name not in now_names])
        changes += _name_change("new", [name for name in self.label_map if name not in before_names])
        changes += _name_change("with other images", _changed_identities(saved_state, now))
        for key, what in (("num_cameras", "cameras"), ("num_views", "viewpoints")):
            if now[key] != saved_state[key]:
                changes.append(f"{what}: {now[key]}, were {saved_state[key]}")
        return changes or ["file names, cameras, viewpoints or the order of the datasets changed; no counts did"]

    def _file_sizes(self) -> np.ndarray:
        """Bytes of every file, int64 [N]; looked up once."""
        if self._sizes is None:
            sizes = (_file_size(path) for path in self.paths)
            self._sizes = np.fromiter(sizes, dtype=np.int64, count=len(self))
        return self._sizes


def _labels(pids: np.ndarray, first: int) -> tuple[np.ndarray, list[int]]:
    """Labels int64 [N] of a dataset's images, from `first` on by rising pid and -1 where the pid is; and the pids."""
    known, ranks = np.unique(pids, return_inverse=True)
    unlabelled = int(len(known) > 0 and known[0] == UNLABELLED)
    return np.where(pids == UNLABELLED, -1, ranks + first - unlabelled), known[unlabelled:].tolist()


def _check_labels(labels: np.ndarray, names: str) -> None:
    """Raise ValueError if no image has a label; say in the log how many have none."""
    missing = int((labels < 0).sum())
    if missing == len(labels):
        raise ValueError(
            f"None of the {missing} training images of {names} has an identity. To learn without identities, set "
            "DATASETS.USE_LABELS False and choose a method that makes pseudo labels."
        )
    if missing:
        get_logger().warning(f"{missing} of {len(labels)} training images have no identity (pid -1): left out.")


def _file_size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} was there when the dataset was read and is gone; is something changing the folder?"
        ) from None


def _count_change(before: int, now: int) -> list[str]:
    if before == now:
        return []
    return [f"{abs(now - before)} images {'more' if now > before else 'fewer'} ({now}, were {before})"]


def _name_change(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:_EXAMPLES]) + (" ..." if len(names) > _EXAMPLES else "")
    return [f"{len(names)} {'identity' if len(names) == 1 else 'identities'} {what}: {shown}"]


def _changed_identities(before: dict, now: dict) -> list[str]:
    """Identities of both whose number of images or of bytes differs."""
    columns = ("label_map", "images_of_label", "bytes_of_label")
    known = {name: content for name, *content in zip(*(before[c] for c in columns), strict=True)}
    rows = zip(*(now[c] for c in columns), strict=True)
    return [name for name, *content in rows if name in known and known[name] != content]
