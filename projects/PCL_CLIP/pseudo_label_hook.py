"""Pseudo labels: clusters the training images at the start of every epoch and trains on what it finds."""

import csv
import io
import os
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from reid_core.config import CfgNode, ConfigError
from reid_core.data.loader import build_test_loader
from reid_core.data.training_set import TrainingSet
from reid_core.engine.encoding import encode
from reid_core.engine.hooks import Hook
from reid_core.evaluation.clustering import clustering_scores
from reid_core.registry import HOOK_REGISTRY
from reid_core.retrieval import center_cameras, pseudo_labels
from reid_core.structures import Batch
from reid_core.utils import comm
from reid_core.utils.file_io import write_atomically
from reid_core.utils.logging import get_logger

SKIPPED_IN_A_ROW = 2
"""So many epochs without a usable clustering end the run: nothing that happens in between would change the next."""


class NoClustersError(ValueError):
    """Clustering gave nothing to train on, again; the text says what it gave and which keys to change."""


@HOOK_REGISTRY.register()
class PseudoLabelHook(Hook):
    """Before each epoch: encode all training images, cluster them, and hand out labels, proxies and memories.

    Images in no cluster are left out of the epoch. An epoch that no batch can be made for has no step; the second in a
    row raises NoClustersError. At the end of the stage the images are clustered once more, with the finished model, and
    written to `clusters.csv`. The labels are kept with a checkpoint, so that a run goes on inside an epoch with them.

    Metrics of every epoch: `clusters`, `outliers` (images in none), those of `clustering_scores` where identities are
    known, and `skipped_epochs` (so far) for an epoch without a step.

    batches: all training images with the test transform, this process's share. camids: int64 [N], None where the
    cameras are not known: then a cluster is one proxy. known_labels: int64 [N], -1 where nobody knows, for the metrics
    only. center: take away each camera's mean feature before clustering (not for the memories).
    """

    makes_labels = True

    def __init__(
        self,
        batches: Iterable[Batch],
        paths: Iterable[str],
        camids: Tensor | None,
        known_labels: Tensor,
        folder: Path,
        eps: float,
        min_samples: int,
        k1: int,
        k2: int,
        center: bool = False,
    ):
        if not 0 < eps < 1 or min(min_samples, k1, k2) < 1:
            raise ConfigError(
                "PCL.CLUSTERING.EPS must be in (0, 1), MIN_SAMPLES, K1 and K2 positive; got "
                f"EPS {eps}, MIN_SAMPLES {min_samples}, K1 {k1}, K2 {k2}."
            )
        self.batches, self.paths, self.folder = batches, paths, Path(folder)
        self.known_labels = known_labels
        self.camids = torch.zeros_like(known_labels) if camids is None else camids
        self.knows_cameras = camids is not None
        self.eps, self.min_samples, self.k1, self.k2, self.center = eps, min_samples, k1, k2, center
        self.clusters: Tensor | None = None  # of the present epoch; None: not known, or not usable
        self.measures: dict[str, float] = {}  # of the present epoch
        self.skipped = self.skipped_in_a_row = 0

    def before_train(self) -> None:
        model = self.trainer.model
        if not hasattr(model, "set_pseudo_labels"):
            raise ConfigError(
                f"PseudoLabelHook makes labels that {type(model).__name__} does not take: set "
                "MODEL.META_ARCHITECTURE ClusterContrastiveCLIP."
            )
        if self.knows_cameras:
            return
        if model.proxies is not None:
            get_logger().warning("The cameras of the training images are not known: each cluster is a single proxy.")
        if self.center:
            get_logger().warning("PCL.CLUSTERING.CENTER_CAMERAS does nothing: no cameras are known.")

    def before_stage(self) -> None:
        # A run that goes on inside an epoch; its memories are part of the model.
        if self.trainer.iteration and self.clusters is not None:
            self._hand_out(self.clusters)

    def before_epoch(self) -> None:
        features, clusters = self._cluster()
        self.measures = self._measure(clusters)
        try:
            proxies = self._hand_out(clusters)
        except ValueError as reason:
            self._skip(clusters, str(reason))
            return
        self.clusters, self.skipped_in_a_row = clusters, 0
        self.trainer.model.rebuild_memory(features, clusters, proxies)

    def after_backward(self) -> None:
        self.trainer.model.update_memory()

    def after_epoch(self) -> None:
        # Not before: a run that is stopped inside the epoch and goes on would not have logged them, or twice.
        self.trainer.metrics.put(self.measures)

    def after_stage(self) -> None:
        _, clusters = self._cluster()
        if comm.is_main():
            path = self.folder / "clusters.csv"
            write_atomically(path, _table(self.paths, self.camids if self.knows_cameras else None, clusters))
            get_logger().info(f"Clusters of the finished model: {_counts(clusters)}, written to {path}.")

    def _cluster(self) -> tuple[Tensor, Tensor]:
        """Features [N, D] and clusters int64 [N], -1: in none. The main process clusters for all.

        Raises ValueError, in all of them, as `pseudo_labels`.
        """
        began = time.perf_counter()
        features = encode(self.trainer.model, self.batches)
        encoded, clusters, failure = time.perf_counter(), None, ""
        if comm.is_main():
            try:
                clusters = self._find_clusters(features)
            except ValueError as error:  # all processes have to hear of it, or they wait for ever
                failure = str(error)
        clusters, failure = comm.broadcast_object((clusters, failure))
        if failure:
            raise ValueError(f"The training images cannot be clustered: {failure}")
        ended = time.perf_counter()
        get_logger().info(
            f"{_counts(clusters)} (encoded in {encoded - began:.1f} s, clustered in {ended - encoded:.1f} s)."
        )
        return features, clusters

    def _find_clusters(self, features: Tensor) -> Tensor:
        compared = center_cameras(features, self.camids) if self.center and self.knows_cameras else features
        labels = pseudo_labels(compared, self.eps, self.min_samples, self.k1, self.k2, device=self.trainer.model.device)
        return torch.from_numpy(labels)

    def _measure(self, clusters: Tensor) -> dict[str, float]:
        metrics = {"clusters": float(_number(clusters)), "outliers": float((clusters < 0).sum())}
        known = self.known_labels >= 0
        if known.any():
            metrics |= clustering_scores(self.known_labels[known].numpy(), clusters[known].numpy())
        return metrics

    def _hand_out(self, clusters: Tensor) -> Tensor:
        """Tell the loader and the model; returns the proxies [N]. Raises ValueError if no batch can be made."""
        loader, model = self.trainer.stage.loader, self.trainer.model
        if _number(clusters) < 2:
            found = "All that are in a cluster are in one" if _number(clusters) else "No image is in a cluster"
            raise ValueError(f"{found}: there is nothing to tell apart.")
        proxies = model.set_pseudo_labels(clusters, self.camids)
        loader.set_targets(clusters, sample_by=proxies if model.proxies is not None else None)
        return proxies

    def _skip(self, clusters: Tensor, reason: str) -> None:
        self.trainer.stage.loader.set_targets(None)
        self.clusters, self.skipped, self.skipped_in_a_row = None, self.skipped + 1, self.skipped_in_a_row + 1
        is_noise = 2 * int((clusters < 0).sum()) > len(clusters)
        now = f"PCL.CLUSTERING.EPS (now {self.eps})"
        advice = (
            f"raise {now} or lower MIN_SAMPLES ({self.min_samples})" if is_noise else f"lower {now} or K1 ({self.k1})"
        )
        text = (
            f"Epoch {self.trainer.epoch + 1} has no usable clusters ({_counts(clusters)}): {reason} "
            f"To find others, {advice}."
        )
        if self.skipped_in_a_row >= SKIPPED_IN_A_ROW:
            raise NoClustersError(f"{text} It is the second epoch in a row: the run ends.")
        get_logger().warning("%s It is skipped (%d so far).", text, self.skipped)
        self.measures["skipped_epochs"] = float(self.skipped)

    def state_dict(self) -> dict:
        return {
            "clusters": self.clusters,
            "measures": self.measures,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def load_state_dict(self, state: dict) -> None:
        self.clusters, self.measures = state["clusters"], dict(state["measures"])
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]

    @classmethod
    def from_config(cls, cfg: CfgNode, training_set: TrainingSet) -> dict:
        options = cfg.PCL.CLUSTERING
        return {
            "batches": build_test_loader(cfg, training_set.images, comm.rank(), comm.world_size()),
            "paths": training_set.paths,
            "camids": training_set.camids if training_set.names_cameras else None,
            "known_labels": training_set.known_labels,
            "folder": Path(cfg.OUTPUT_DIR),
            "eps": options.EPS,
            "min_samples": options.MIN_SAMPLES,
            "k1": options.K1,
            "k2": options.K2,
            "center": options.CENTER_CAMERAS,
        }


def _number(clusters: Tensor) -> int:
    return int(clusters.max()) + 1


def _counts(clusters: Tensor) -> str:
    number, outliers = _number(clusters), int((clusters < 0).sum())
    return f"{number} cluster{'' if number == 1 else 's'}, {outliers} of {len(clusters)} images in none"


def _table(paths: Iterable[str], camids: Tensor | None, clusters: Tensor) -> bytes:
    """CSV with the columns path, camid (where known) and cluster; -1: in none."""
    columns = [("path", paths), *([] if camids is None else [("camid", camids.tolist())])]
    columns.append(("cluster", clusters.tolist()))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([name for name, _ in columns])
    writer.writerows(zip(*(values for _, values in columns), strict=True))
    return os.fsencode(text.getvalue())  # names of files need not be UTF-8
