"""Claim: the losses of camera-aware proxies take about the time of their matrix products, a loop over images longer.

Forward and backward of the intra-camera, offline and online losses, against the plain way: the same matrix products,
then image by image a full sort of the proxies and a softmax over the chosen ones. Same batch, taking turns, in this
process. `products` is the time of the matrix products alone, the least that either could take.

    python benchmarks/proxy_losses.py                             # 3000 and 10000 proxies, under a minute on two cores
    python benchmarks/proxy_losses.py --proxies 30000 --device cuda
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from common import best_times, print_json
from torch import Tensor
from torch.nn import functional as F

from reid_core.modeling.losses import intra_camera_loss, offline_association_loss, online_association_loss

TEMPERATURE, NUM_POSITIVES, NUM_NEGATIVES, BALANCE = 0.07, 3, 50, 0.15
CAMERAS, PROXIES_OF_CLUSTER, IMAGES_OF_PROXY = 15, 5, 8  # MSMT17 has 15 cameras
PRODUCTS = {"intra": (1, 1), "offline": (1, 1), "online": (2, 1)}  # forward, backward


@dataclass
class Case:
    """A batch on its device, and the proxies."""

    features: Tensor  # [B, D], with gradient
    prototypes: Tensor  # [P, D]
    clusters: Tensor  # [P]
    cameras: Tensor  # [P]
    proxies: Tensor  # [B], each image's own

    @property
    def targets(self) -> Tensor:
        return self.clusters[self.proxies]

    @property
    def camids(self) -> Tensor:
        return self.cameras[self.proxies]


def synthetic_case(batch: int, width: int, proxies: int, device: torch.device) -> Case:
    """Unit prototypes around one direction a cluster, each of another camera; images around their proxy."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.arange(proxies)
    clusters = numbers // PROXIES_OF_CLUSTER
    cameras = (7 * clusters + 2 * (numbers % PROXIES_OF_CLUSTER)) % CAMERAS
    centres = torch.randn(len(clusters.unique()), width, generator=generator)
    prototypes = F.normalize(centres[clusters] + 0.7 * torch.randn(proxies, width, generator=generator), dim=1)
    chosen = torch.randperm(proxies, generator=generator)[: -(-batch // IMAGES_OF_PROXY)]
    own = chosen.repeat_interleave(IMAGES_OF_PROXY)[:batch]
    noise = torch.randn(len(own), width, generator=generator) / width**0.5
    features = F.normalize(prototypes[own] + noise, dim=1)
    return Case(*(tensor.to(device) for tensor in (features, prototypes, clusters, cameras, own)))


def ours(case: Case, name: str) -> Tensor:
    inputs = case.features, case.prototypes
    negatives = NUM_NEGATIVES
    if name == "intra":
        return intra_camera_loss(*inputs, case.proxies, case.cameras, case.camids, TEMPERATURE)
    if name == "offline":
        return offline_association_loss(*inputs, case.targets, case.clusters, case.camids, TEMPERATURE, negatives)
    return online_association_loss(
        *inputs, case.proxies, case.cameras, case.camids, TEMPERATURE, NUM_POSITIVES, negatives, BALANCE
    )


def plain_intra(case: Case, image: int, score: Tensor, _: Tensor) -> Tensor:
    candidates = (case.cameras == case.camids[image]).nonzero().flatten()
    target = (candidates == case.proxies[image]).nonzero().flatten()
    return F.cross_entropy(score[candidates][None], target)


def soft_cross_entropy(score: Tensor, ranking: Tensor, positives: Tensor) -> Tensor:
    """Over the positives and the hardest others by the ranking, which is sorted as a whole."""
    ranking = ranking.detach().clone()
    ranking[positives] = 10_000.0
    order = ranking.argsort(descending=True)[: len(positives) + NUM_NEGATIVES]
    target = torch.zeros(len(order), device=score.device)
    target[: len(positives)] = 1 / len(positives)
    return F.cross_entropy(score[order][None], target[None])


def plain_offline(case: Case, image: int, score: Tensor, _: Tensor) -> Tensor:
    positives = (case.clusters == case.targets[image]).nonzero().flatten()
    return soft_cross_entropy(score, score, positives)


def plain_online(case: Case, image: int, score: Tensor, mixed: Tensor) -> Tensor:
    best = []
    for camera in range(CAMERAS):
        members = (case.cameras == camera).nonzero().flatten()
        best.append(members[mixed[image, members].argmax()])
    best = torch.stack(best)
    positives = best[mixed[image, best].argsort(descending=True)[:NUM_POSITIVES]]
    return soft_cross_entropy(score, mixed[image], positives)


def plain(case: Case, name: str) -> Tensor:
    products = case.features @ case.prototypes.T
    mixed = products.detach()
    if name == "online":
        mixed = BALANCE * mixed + (1 - BALANCE) * case.prototypes[case.proxies] @ case.prototypes.T
    one = {"intra": plain_intra, "offline": plain_offline, "online": plain_online}[name]
    scores = (products / TEMPERATURE).unbind()
    total = products.new_zeros(())
    for camera in case.camids.unique():
        images = (case.camids == camera).nonzero().flatten().tolist()
        terms = [one(case, image, scores[image], mixed) for image in images]
        total = total + torch.stack(terms).mean()
    return total


def gradient(loss: Callable[[Case, str], Tensor], case: Case, name: str) -> Tensor:
    case.features.requires_grad_()
    return torch.autograd.grad(loss(case, name), case.features)[0]


def matrix_products(case: Case, forward: int, backward: int) -> None:
    features = case.features.detach()
    for _ in range(forward):
        scores = features @ case.prototypes.T
    for _ in range(backward):
        scores @ case.prototypes


def measure(case: Case, name: str, repeats: int) -> dict[str, float]:
    times = best_times(
        {
            "ours": lambda: gradient(ours, case, name),
            "plain": lambda: gradient(plain, case, name),
            "products": lambda: matrix_products(case, *PRODUCTS[name]),
        },
        repeats,
    )
    expected = gradient(plain, case, name)
    found = {f"{side}_ms": round(1000 * seconds, 2) for side, seconds in times.items()}
    found["ratio"] = round(times["plain"] / times["ours"], 2)
    found["difference"] = float(
        (gradient(ours, case, name) - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--proxies", type=int, nargs="+", default=[3000, 10000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = {"device": str(options.device), "threads": options.threads, "batch": options.batch}
    for proxies in options.proxies:
        case = synthetic_case(options.batch, options.width, proxies, options.device)
        results[str(proxies)] = {}
        title = f"{proxies} proxies"
        print(
            f"{title:15} {'ours ms':>10} {'products ms':>12} {'plain ms':>10} {'plain / ours':>13} {'difference':>11}"
        )
        for name in PRODUCTS:
            found = measure(case, name, options.repeats)
            results[str(proxies)][name] = found
            print(
                f"{name:>15} {found['ours_ms']:10.1f} {found['products_ms']:12.1f} {found['plain_ms']:10.1f} "
                f"{found['ratio']:13.2f} {found['difference']:11.1e}",
                flush=True,
            )
    print_json(results)


if __name__ == "__main__":
    main()
