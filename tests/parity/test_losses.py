"""Identity and triplet losses against the authors' values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from reid_core.modeling.losses import batch_hard_triplet_loss, identity_loss
from reid_core.modeling.losses.triplet import pairwise_distance
from tests.parity import helpers

LOSSES = {key: torch.from_numpy(value) for key, value in helpers.load("losses").items() if value.dtype.kind in "fi"}


def _assert_loss(function, inputs, key, gradient_key=None):
    inputs = inputs.clone().requires_grad_()
    loss = function(inputs)
    loss.backward()
    torch.testing.assert_close(loss.detach(), LOSSES[f"{key}_loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(inputs.grad, LOSSES[gradient_key or f"{key}_grad0"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "smoothing"), helpers.cases("losses", r"(ce_smooth|ce_lsce)([\d.]+)_loss"))
def test_identity_loss(kind, smoothing):
    _assert_loss(
        lambda x: identity_loss(x, LOSSES["y"], float(smoothing)), LOSSES["ce_logits"], f"{kind}{smoothing}"
    )


def test_identity_loss_of_large_logits():
    _assert_loss(lambda x: identity_loss(x, LOSSES["y"], 0.1), LOSSES["ce_logits_big"], "ce_big")


@pytest.mark.parametrize(("margin", "normalise"), helpers.cases("losses", r"tri_m([\d.]+|None)_h0\.0_n([01])_loss"))
def test_batch_hard_triplet_loss(margin, normalise):
    key = f"tri_m{margin}_h0.0_n{normalise}"

    def loss(features):
        features = F.normalize(features, dim=1) if normalise == "1" else features
        return batch_hard_triplet_loss(features, LOSSES["y"], None if margin == "None" else float(margin))

    _assert_loss(loss, LOSSES["tri_feat"], key, f"{key}_grad")


def test_pairwise_distance():
    ours, expected = pairwise_distance(LOSSES["tri_feat"]), LOSSES["tri_euclid"].clone()
    torch.testing.assert_close(
        ours.fill_diagonal_(0), expected.fill_diagonal_(0), rtol=1e-5, atol=1e-5
    )


def test_identical_features_have_a_finite_gradient():
    labels = torch.arange(4).repeat_interleave(2)
    features = torch.ones(8, 4, requires_grad=True)
    loss = batch_hard_triplet_loss(features, labels, 0.3)
    loss.backward()
    torch.testing.assert_close(loss.detach(), LOSSES["tri_degenerate_loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(features.grad, LOSSES["tri_degenerate_grad"], rtol=1e-5, atol=1e-6)
