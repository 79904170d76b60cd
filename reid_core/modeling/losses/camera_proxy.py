"""Losses of camera-aware proxies: a cluster has one prototype for each camera that saw it.

Intra-camera learning of CAP (Wang et al., AAAI 2021); offline and online association of O2CAP (arXiv 2201.05820).
Each loss is the mean over the images of one camera, summed over the cameras of the batch, so that a camera with few
images counts as much as one with many. Where several processes share a batch, `images_of_cameras` counts over all of
them, and the gradients averaged over processes are those of the whole batch in one process.

Everything is a matrix operation over [B, P]: no loop over images or cameras, no shape that depends on values, hence no
wait for the device, and nearest proxies by selection instead of a sort. Of proxies with exactly equal similarity any
may be chosen: equal proxies give the same loss and the same gradient whichever it is.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from reid_core.modeling.losses.contrastive import full_precision
from reid_core.utils import comm

NEGATIVE_INFINITY = float("-inf")


def intra_camera_loss(
    features: Tensor,
    prototypes: Tensor,
    proxies: Tensor,
    prototype_cameras: Tensor,
    camids: Tensor,
    temperature: float,
    *,
    images_of_camera: Tensor | None = None,
) -> Tensor:
    """Cross-entropy over the proxies of the image's own camera: -log softmax(f @ p.T / temperature)[own proxy].

    features: [B, D] float, used as given (unit norm in the papers). prototypes: [P, D] float, the proxies' vectors; no
    gradient reaches them. proxies: [B] int64 in [0, P), each image's own, of the image's camera. prototype_cameras:
    [P], camids: [B] int64. images_of_camera: [B], see `images_of_cameras`; None: this batch is the whole. Returns a
    scalar, summed over cameras as the module says; an image whose camera has one proxy adds 0, and so does an empty
    batch.
    Raises ValueError if the temperature is not positive, RuntimeError (on a GPU later, as a failed device assertion)
    if an image's proxy is -1 or of another camera.
    """
    _check_positive(temperature=temperature)
    own_camera = prototype_cameras[None, :] == camids[:, None]
    _assert_own_camera(proxies, prototype_cameras, camids)
    scores = _similarity(features, prototypes) / temperature
    scores = scores.masked_fill(~own_camera, NEGATIVE_INFINITY)
    losses = F.cross_entropy(scores, proxies, reduction="none")
    return _sum_of_camera_means(losses, camids, images_of_camera)


def offline_association_loss(
    features: Tensor,
    prototypes: Tensor,
    targets: Tensor,
    prototype_clusters: Tensor,
    camids: Tensor,
    temperature: float,
    num_negatives: int = 50,
    *,
    images_of_camera: Tensor | None = None,
) -> Tensor:
    """Cross-entropy towards all proxies of the image's cluster: -mean over them of log softmax(f @ p.T / temperature).

    The softmax is over these positives and the `num_negatives` most similar of the other proxies, or all others where
    they are fewer. features: [B, D] float, used as given (unit norm in the paper). prototypes: [P, D] float; no
    gradient reaches them. targets: [B] int64, the images' clusters. prototype_clusters: [P], camids: [B] int64.
    images_of_camera: [B], see `images_of_cameras`; None: this batch is the whole. Returns a scalar, summed over cameras
    as the module says; 0 where all proxies are of one cluster and that has a single one, and for an empty batch.
    Raises ValueError if the temperature or num_negatives is not positive, RuntimeError (on a GPU later, as a failed
    device assertion) if the cluster of an image has no proxy.
    """
    _check_positive(temperature=temperature, num_negatives=num_negatives)
    positive = prototype_clusters[None, :] == targets[:, None]
    number = positive.sum(dim=1)
    torch._assert_async((number > 0).all(), "the cluster of an image has no proxy")
    scores = _similarity(features, prototypes) / temperature
    negatives = scores.masked_fill(positive, NEGATIVE_INFINITY)
    negatives = negatives.topk(min(num_negatives, len(prototypes)), dim=1, sorted=False).values
    positives = scores.masked_fill(~positive, NEGATIVE_INFINITY).logsumexp(dim=1, keepdim=True)
    total = torch.cat([positives, negatives], dim=1).logsumexp(dim=1)
    mean = scores.masked_fill(~positive, 0).sum(dim=1) / number
    return _sum_of_camera_means(total - mean, camids, images_of_camera)


def online_association_loss(
    features: Tensor,
    prototypes: Tensor,
    proxies: Tensor,
    prototype_cameras: Tensor,
    camids: Tensor,
    temperature: float,
    num_positives: int = 3,
    num_negatives: int = 50,
    balance: float = 0.15,
    *,
    images_of_camera: Tensor | None = None,
) -> Tensor:
    """Cross-entropy towards proxies found by similarity: -mean over them of log softmax(f @ p.T / temperature).

    Similarity is balance * f @ p.T + (1 - balance) * p[own proxy] @ p.T. The positives are the most similar proxies of
    the `num_positives` cameras that come nearest, one of each camera, or of all cameras where they are fewer; the
    softmax is over them and the `num_negatives` others of the highest similarity, or all others where they are fewer.

    features: [B, D] float, used as given (unit norm in the paper). prototypes: [P, D] float; no gradient reaches them.
    proxies: [B] int64 in [0, P), each image's own. prototype_cameras: [P], camids: [B] int64. balance in [0, 1].
    images_of_camera: [B], see `images_of_cameras`; None: this batch is the whole. Returns a scalar, summed over cameras
    as the module says; 0 where there is one proxy only, and for an empty batch.
    Raises ValueError if the temperature, num_positives or num_negatives is not positive, or balance is not in [0, 1];
    RuntimeError (on a GPU later, as a failed device assertion) if an image's proxy is -1 or of another camera.
    """
    _check_positive(temperature=temperature, num_positives=num_positives, num_negatives=num_negatives)
    if not 0 <= balance <= 1:
        raise ValueError(f"balance must be in [0, 1], got {balance}.")
    _assert_own_camera(proxies, prototype_cameras, camids)
    scores = _similarity(features, prototypes)
    with torch.no_grad():  # the choice of proxies is not differentiated
        similarity = _similarity(prototypes[proxies], prototypes).to(scores.dtype).lerp(scores, balance)
        positives, found = _best_of_nearest_cameras(similarity, prototype_cameras, num_positives)
        similarity = similarity.scatter(1, positives, NEGATIVE_INFINITY)
        nearest, negatives = similarity.topk(min(num_negatives, len(prototypes)), dim=1, sorted=False)
        absent = torch.cat([~found, nearest == NEGATIVE_INFINITY], dim=1)
    logits = scores.gather(1, torch.cat([positives, negatives], dim=1)) / temperature
    total = logits.masked_fill(absent, NEGATIVE_INFINITY).logsumexp(dim=1)
    mean = logits[:, :num_positives].masked_fill(~found, 0).sum(dim=1) / found.sum(dim=1)
    return _sum_of_camera_means(total - mean, camids, images_of_camera)


def proxy_labels(clusters: Tensor, camids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split each cluster by camera: the proxies are numbered by cluster, and within a cluster by camera.

    clusters: [N] int64, -1 for an image that is left out. camids: [N] int64. Returns the images' proxies [N] (-1 for
    those left out), and of each proxy the cluster [P] and the camera [P], all int64.
    Raises ValueError if clusters and camids differ in length.
    """
    if clusters.shape != camids.shape:
        raise ValueError(
            f"clusters and camids must have one entry for each image, got shapes {list(clusters.shape)} and "
            f"{list(camids.shape)}."
        )
    kept = clusters >= 0
    pairs = torch.stack([clusters[kept], camids[kept]], dim=1)
    pairs, numbers = pairs.unique(dim=0, return_inverse=True)  # sorted by cluster, then by camera
    proxies = torch.full_like(clusters, -1)
    proxies[kept] = numbers
    return proxies, pairs[:, 0], pairs[:, 1]


def images_of_cameras(camids: Tensor) -> Tensor:
    """Of each image, how many images of its camera the batches of all processes hold, over the number of processes.

    camids: int64 [B], of this process; every process holds as many. Returns float32 [B]. Losses that are divided by it
    and summed have, averaged over the processes, the value and the gradient of the whole batch in one process. Every
    process has to call it.
    """
    everywhere = comm.all_gather_rows(camids, equal=True)
    return (camids[:, None] == everywhere[None, :]).sum(dim=1) / comm.world_size()


def _best_of_nearest_cameras(similarity: Tensor, prototype_cameras: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The best proxy of each of the `number` best cameras: proxies [B, number] and which of them exist, bool.

    Where there are fewer cameras the first proxy stands in for those that do not exist.
    """
    left, positives, found = similarity, [], []
    for _ in range(number):
        value, best = left.max(dim=1)
        found.append(value != NEGATIVE_INFINITY)
        positives.append(torch.where(found[-1], best, positives[0] if positives else best))
        left = left.masked_fill(prototype_cameras[None, :] == prototype_cameras[best][:, None], NEGATIVE_INFINITY)
    return torch.stack(positives, dim=1), torch.stack(found, dim=1)


def _similarity(features: Tensor, prototypes: Tensor) -> Tensor:
    """Dot products [B, P] in at least float32; no gradient reaches the prototypes."""
    with torch.autocast(features.device.type, enabled=False):  # 16-bit cosines over 0.07 are too coarse
        features = full_precision(features)
        return features @ prototypes.detach().to(features.dtype).T


def _assert_own_camera(proxies: Tensor, prototype_cameras: Tensor, camids: Tensor) -> None:
    own = (proxies >= 0) & (prototype_cameras[proxies] == camids)
    torch._assert_async(own.all(), "an image's proxy is -1 or of another camera")


def _sum_of_camera_means(losses: Tensor, camids: Tensor, images_of_camera: Tensor | None) -> Tensor:
    """Mean of the losses [B] of each camera's images, summed over the cameras."""
    if images_of_camera is None:
        images_of_camera = (camids[:, None] == camids[None, :]).sum(dim=1)
    return (losses / images_of_camera).sum()


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"{name} must be positive, got {value}.")
