"""The prototype bank and its losses against the authors' memories: loss, gradient, bank after each of two steps."""

import pytest
import torch
from torch.nn import functional as F

from reid_core.modeling.losses import (
    intra_camera_loss,
    offline_association_loss,
    online_association_loss,
    prototype_contrastive_loss,
    proxy_labels,
)
from reid_core.modeling.memory import PrototypeBank, prototype_means
from tests.parity import helpers

MEMORY = {key: torch.from_numpy(value) for key, value in helpers.load("memory").items() if value.dtype.kind in "fi"}
HYPER_KEY = r"o2_hyper_([a-zA-Z_]+)"  # its values in the order of the names
STEPS = helpers.cases("memory", r"(pcl|cc)_hard([01])_t([\d.]+)_m([\d.]+)_step1_loss")


def _bank(rows: torch.Tensor, momentum: float, hard: bool) -> PrototypeBank:
    bank = PrototypeBank(*rows.shape, momentum=momentum, update_rule="hard" if hard else "plain")
    bank.prototypes.copy_(rows)
    return bank


def _step(bank, features, targets, temperature, factor=1.0):
    """One forward, backward and update as the method does it: (loss, gradient of the un-normalised features)."""
    features = features.clone().requires_grad_()
    unit = F.normalize(features, dim=1)
    loss = prototype_contrastive_loss(unit, bank.prototypes, targets, temperature)
    (factor * loss).backward()
    bank.update(unit.detach(), targets)
    return factor * loss.detach(), features.grad


def _assert_close(ours, expected):
    torch.testing.assert_close(ours.float(), expected.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("project", "hard", "temperature", "momentum"), STEPS)
def test_two_steps(project, hard, temperature, momentum):
    bank = _bank(MEMORY["mem0"], float(momentum), hard == "1")
    for number in (1, 2):
        key = f"{project}_hard{hard}_t{temperature}_m{momentum}_step{number}"
        loss, gradient = _step(bank, MEMORY[f"x{number}"], MEMORY[f"y{number}"], float(temperature))
        _assert_close(loss, MEMORY[f"{key}_loss"])
        _assert_close(gradient, MEMORY[f"{key}_grad"])
        _assert_close(bank.prototypes, MEMORY[f"{key}_mem"])


@pytest.mark.parametrize(("hard", "factor"), helpers.cases("memory", r"pcl_hard([01])_scaled([\d.]+)_loss"))
def test_a_scaled_loss_leaves_the_update_alone(hard, factor):
    bank = _bank(MEMORY["mem0"], 0.2, hard == "1")
    loss, gradient = _step(bank, MEMORY["x1"], MEMORY["y1"], 0.05, float(factor))
    key = f"pcl_hard{hard}_scaled{factor}"
    _assert_close(loss, MEMORY[f"{key}_loss"])
    _assert_close(gradient, MEMORY[f"{key}_grad"])
    _assert_close(bank.prototypes, MEMORY[f"{key}_mem"])


@pytest.mark.parametrize(("noise", "kind"), helpers.cases("memory", r"cent(_noise)?_out_(raw|unit)"))
def test_rebuild(noise, kind):
    prefix = f"cent{noise}"
    features, labels = MEMORY[f"{prefix}_feat"], MEMORY[f"{prefix}_labels"]
    expected = MEMORY[f"{prefix}_out_{kind}"]
    features = F.normalize(features, dim=1) if kind == "unit" else features
    _assert_close(prototype_means(features, labels, len(expected)), expected)


def test_plain_memory_of_the_proxy_program():
    """`o2_base`: the same loss and plain rule in another program, on features taken as they are."""
    if "o2_base_mem" not in MEMORY:
        pytest.skip("this set of golden files has no o2_base case")
    targets = MEMORY["o2_pseudo"][MEMORY["o2_idx1"]]
    bank = _bank(MEMORY["o2_mem0"][: len(MEMORY["o2_base_mem"])], 0.2, hard=False)
    features = MEMORY["o2_x1"].clone().requires_grad_()
    loss = prototype_contrastive_loss(features, bank.prototypes, targets, 0.05)
    loss.backward()
    bank.update(features.detach(), targets)
    _assert_close(loss.detach(), MEMORY["o2_base_loss"])
    _assert_close(features.grad, MEMORY["o2_base_grad"])
    _assert_close(bank.prototypes, MEMORY["o2_base_mem"])


@pytest.mark.parametrize("noise", [found for (found,) in helpers.cases("memory", r"cent(_noise)?_camsplit")])
def test_clusters_split_by_camera(noise):
    labels, cameras = MEMORY[f"cent{noise}_labels"], MEMORY[f"cent{noise}_cams"]
    proxies, prototype_clusters, prototype_cameras = proxy_labels(labels, cameras)
    assert torch.equal(proxies, MEMORY[f"cent{noise}_camsplit"])
    kept = proxies >= 0
    assert torch.equal(prototype_clusters[proxies[kept]], labels[kept])
    assert torch.equal(prototype_cameras[proxies[kept]], cameras[kept])


def _proxy_step(bank, kind, number):
    """One step of the proxy program: (loss, gradient of the features, which are taken as they are)."""
    ((names,),) = helpers.cases("memory", HYPER_KEY)
    hyper = dict(zip(names.split("_"), MEMORY[f"o2_hyper_{names}"].tolist(), strict=True))
    proxies, clusters, cameras = proxy_labels(MEMORY["o2_pseudo"], MEMORY["o2_cams_all"])
    assert torch.equal(proxies, MEMORY["o2_proxy"])
    images = MEMORY[f"o2_idx{number}"]
    targets, proxies, camids = MEMORY["o2_pseudo"][images], proxies[images], MEMORY["o2_cams_all"][images]
    features = MEMORY[f"o2_x{number}"].clone().requires_grad_()
    inputs, temperature, negatives = (features, bank.prototypes), hyper["temp"], int(hyper["bgknn"])
    loss = torch.zeros(())
    if kind == "intra":
        loss = loss + intra_camera_loss(*inputs, proxies, cameras, camids, temperature)
    if kind in ("cross", "both"):
        loss = loss + offline_association_loss(*inputs, targets, clusters, camids, temperature, negatives)
    if kind in ("online", "both"):
        options = (int(hyper["posK"]), negatives, hyper["balance"])
        loss = loss + online_association_loss(*inputs, proxies, cameras, camids, temperature, *options)
    loss.backward()
    bank.momentum = hyper["mom"]
    bank.update(features, proxies)
    return loss.detach(), features.grad


@pytest.mark.parametrize("kind", [kind for (kind,) in helpers.cases("memory", r"o2_(cross|online|both)_step1_loss")])
def test_two_steps_of_camera_proxies(kind):
    bank = _bank(MEMORY["o2_mem0"], 0.0, hard=False)
    for number in (1, 2):
        loss, gradient = _proxy_step(bank, kind, number)
        _assert_close(loss, MEMORY[f"o2_{kind}_step{number}_loss"])
        _assert_close(gradient, MEMORY[f"o2_{kind}_step{number}_grad"])
        _assert_close(bank.prototypes, MEMORY[f"o2_{kind}_step{number}_mem"])


def test_intra_camera_step():
    if "o2_intra_fixed_loss" not in MEMORY:
        pytest.skip("this set of golden files has no o2_intra_fixed case")
    bank = _bank(MEMORY["o2_mem0"], 0.0, hard=False)
    loss, gradient = _proxy_step(bank, "intra", 1)
    _assert_close(loss, MEMORY["o2_intra_fixed_loss"])
    _assert_close(gradient, MEMORY["o2_intra_fixed_grad"])
    _assert_close(bank.prototypes, MEMORY["o2_intra_fixed_mem"])
