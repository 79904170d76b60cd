"""The unsupervised model: the same features, compared with memories of clusters and of their cameras' proxies."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.PCL_CLIP.prototype_model import PrototypeModel, instances_of_label, unit_features
from reid_core.config import CfgNode, ConfigError
from reid_core.modeling.losses import (
    images_of_cameras,
    intra_camera_loss,
    offline_association_loss,
    online_association_loss,
    prototype_contrastive_loss,
    proxy_labels,
)
from reid_core.modeling.losses.contrastive import full_precision
from reid_core.modeling.memory import ResizableBank
from reid_core.registry import META_ARCHITECTURE_REGISTRY
from reid_core.structures import Batch

_HOOK = "PseudoLabelHook"


@dataclass(frozen=True)
class LossWeights:
    """Weights of the four losses, each not negative; 0 leaves a loss out.

    cluster: towards the image's cluster (Cluster-Contrast, arXiv 2103.11568). intra: within the camera (CAP, AAAI
    2021). offline, online: across cameras (O2CAP, arXiv 2201.05820).
    """

    cluster: float = 1.0
    intra: float = 0.0
    offline: float = 0.0
    online: float = 0.0

    def __post_init__(self) -> None:
        if min(self.cluster, self.intra, self.offline, self.online) < 0:
            raise ConfigError(f"Weights of losses must not be negative, got {self}.")
        if self.cluster == 0 and not self.proxies:
            raise ConfigError(
                "PCL.LOSS_WEIGHT and PCL.PROXY.INTRA_WEIGHT, OFFLINE_WEIGHT and ONLINE_WEIGHT are all 0: no loss is "
                "left."
            )

    @property
    def proxies(self) -> bool:
        """Whether a loss needs the proxies' memory."""
        return max(self.intra, self.offline, self.online) > 0


@META_ARCHITECTURE_REGISTRY.register()
class ClusterContrastiveCLIP(PrototypeModel):
    """Losses on v / |v| by pseudo labels; `set_pseudo_labels` tells them, `rebuild_memory` fills the memories.

    clusters: the bank of clusters. proxies: the bank of proxies, the part of a cluster that one camera saw; None where
    no loss needs it. temperature, proxy_temperature: of the losses against each. num_negatives, num_positives, balance:
    see the association losses. occurrences: how often one cluster, one proxy stands in a batch at most (None: unknown).
    """

    identity_bound = ("clusters.", "proxies.")

    def __init__(
        self,
        backbone: nn.Module,
        heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        clusters: ResizableBank,
        proxies: ResizableBank | None,
        weights: LossWeights,
        temperature: float = 0.05,
        proxy_temperature: float = 0.07,
        num_negatives: int = 50,
        num_positives: int = 3,
        balance: float = 0.15,
        occurrences: tuple[int | None, int | None] = (None, None),
    ):
        super().__init__(backbone, heads, pixel_mean, pixel_std)
        if min(temperature, proxy_temperature) <= 0:
            raise ConfigError(
                "PCL.TEMPERATURE and PCL.PROXY.TEMPERATURE must be positive, got "
                f"{temperature} and {proxy_temperature}."
            )
        if min(num_negatives, num_positives) < 1 or not 0 <= balance <= 1:
            raise ConfigError(
                "PCL.PROXY.NUM_NEGATIVES and NUM_POSITIVES must be positive and BALANCE in [0, 1], got "
                f"{num_negatives}, {num_positives} and {balance}."
            )
        heads.classifier = None  # there are no identities to classify
        self.clusters, self.proxies, self.weights = clusters, proxies, weights
        self.temperature, self.proxy_temperature = temperature, proxy_temperature
        self.num_negatives, self.num_positives, self.balance = num_negatives, num_positives, balance
        self.occurrences = occurrences
        # Follow from the pseudo labels, which the hook keeps: not saved with the model.
        self.register_buffer("_proxy_of", torch.zeros(0, 0, dtype=torch.int64), persistent=False)  # [clusters, cameras]
        self.register_buffer("_proxy_clusters", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("_proxy_cameras", torch.zeros(0, dtype=torch.int64), persistent=False)

    def set_pseudo_labels(self, clusters: Tensor, camids: Tensor) -> Tensor:
        """Take the clusters [N] of all training images (-1: in none) and their cameras [N], int64; returns the proxies
        [N] (-1 likewise), the labels to sample by."""
        proxies, of_cluster, of_camera = proxy_labels(clusters, camids)
        table = torch.full((int(clusters.max()) + 1, int(camids.max()) + 1), -1)
        table[of_cluster, of_camera] = torch.arange(len(of_cluster))
        device = self.device
        self._proxy_of, self._proxy_clusters, self._proxy_cameras = (
            value.to(device) for value in (table, of_cluster, of_camera)
        )
        return proxies

    def rebuild_memory(self, features: Tensor, clusters: Tensor, proxies: Tensor) -> None:
        """Prototypes from the features [N, D] (any length) of all training images and their labels [N]."""
        unit = unit_features(features, self.clusters)
        if self.weights.cluster > 0:
            self.clusters.rebuild(unit, clusters.to(unit.device))
        if self.proxies is not None:
            self.proxies.rebuild(unit, proxies.to(unit.device))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        unit = F.normalize(full_precision(self.features(batch)), dim=1)
        losses, updates = {}, []
        if self.weights.cluster > 0:
            self.require("memory of clusters", self.clusters, _HOOK)
            targets = batch["targets"]
            loss = prototype_contrastive_loss(unit, self.clusters.prototypes, targets, self.temperature)
            losses["loss_cluster"] = self.weights.cluster * loss
            updates.append((self.clusters, targets, self.occurrences[0]))
        if self.proxies is not None:
            self.require("memory of proxies", self.proxies, _HOOK)
            camids = self._cameras(batch)
            proxies = self._proxy_of[batch["targets"], camids]
            losses.update(self._proxy_losses(unit, batch["targets"], camids, proxies))
            updates.append((self.proxies, proxies, self.occurrences[1]))
        self.remember(unit, *updates)
        return losses

    def _cameras(self, batch: Batch) -> Tensor:
        """The batch's cameras as `set_pseudo_labels` had them: one for all where it was given one."""
        return batch["camids"].clamp(0, self._proxy_of.shape[1] - 1)

    def _proxy_losses(self, unit: Tensor, targets: Tensor, camids: Tensor, proxies: Tensor) -> dict[str, Tensor]:
        prototypes, temperature, weights = self.proxies.prototypes, self.proxy_temperature, self.weights
        losses, counts = {}, images_of_cameras(camids)
        if weights.intra > 0:
            loss = intra_camera_loss(
                unit, prototypes, proxies, self._proxy_cameras, camids, temperature, images_of_camera=counts
            )
            losses["loss_intra"] = weights.intra * loss
        if weights.offline > 0:
            loss = offline_association_loss(
                unit, prototypes, targets, self._proxy_clusters, camids, temperature, self.num_negatives,
                images_of_camera=counts,
            )  # fmt: skip
            losses["loss_offline"] = weights.offline * loss
        if weights.online > 0:
            loss = online_association_loss(
                unit, prototypes, proxies, self._proxy_cameras, camids, temperature,
                self.num_positives, self.num_negatives, self.balance, images_of_camera=counts,
            )  # fmt: skip
            losses["loss_online"] = weights.online * loss
        return losses

    @classmethod
    def from_config(cls, cfg: CfgNode, num_identities: int, num_cameras: int, num_views: int) -> dict:
        arguments = super().from_config(cfg, 0, num_cameras, num_views)
        options = cfg.PCL.PROXY
        weights = LossWeights(cfg.PCL.LOSS_WEIGHT, options.INTRA_WEIGHT, options.OFFLINE_WEIGHT, options.ONLINE_WEIGHT)
        width = arguments["heads"].output_width
        most = instances_of_label(cfg)
        return {
            **arguments,
            "clusters": ResizableBank(width, cfg.PCL.MOMENTUM, cfg.PCL.UPDATE_RULE),
            "proxies": ResizableBank(width, options.MOMENTUM, "plain") if weights.proxies else None,
            "weights": weights,
            "temperature": cfg.PCL.TEMPERATURE,
            "proxy_temperature": options.TEMPERATURE,
            "num_negatives": options.NUM_NEGATIVES,
            "num_positives": options.NUM_POSITIVES,
            "balance": options.BALANCE,
            # Proxies are sampled where there are any; then a cluster may occur more often.
            "occurrences": (None if weights.proxies else most, most),
        }
