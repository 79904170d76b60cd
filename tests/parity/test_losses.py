"""Losses, and the totals that the methods build from them, against the authors' values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from reid_core.modeling.losses import (
    batch_hard_triplet_loss,
    identity_loss,
    simclr_loss,
    simsiam_loss,
    simsiam_min_loss,
    supervised_contrastive_loss,
)
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


def _assert_losses(function, names, key, noise=0.0):
    """`function` of the named inputs; its i-th gradient is `{key}_grad{i}`. names: keys, or the tensors themselves.

    noise: what may differ, relative to the largest entry of a gradient.
    """
    inputs = [(LOSSES[name] if isinstance(name, str) else name).clone().requires_grad_() for name in names]
    loss = function(*inputs)
    loss.backward()
    torch.testing.assert_close(loss.detach(), LOSSES[f"{key}_loss"], rtol=1e-5, atol=1e-6)
    for number, values in enumerate(inputs):
        gradient = torch.zeros_like(values) if values.grad is None else values.grad
        expected = LOSSES[f"{key}_grad{number}"]
        atol = max(1e-6, noise * float(expected.abs().max()))
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=atol)
    assert f"{key}_grad{len(inputs)}" not in LOSSES


def _both_ways(images, texts):
    y = LOSSES["y"]
    return supervised_contrastive_loss(images, texts, y, y) + supervised_contrastive_loss(texts, images, y, y)


@pytest.mark.parametrize(("direction",), helpers.cases("losses", r"sup_(i2t|t2i)_loss"))
def test_supervised_contrastive_loss(direction):
    def loss(images, texts):
        anchors, others = (images, texts) if direction == "i2t" else (texts, images)
        return supervised_contrastive_loss(anchors, others, LOSSES["y"], LOSSES["y"], temperature=1.0)

    _assert_losses(loss, ["sup_img", "sup_text"], f"sup_{direction}")


@pytest.mark.parametrize(("suffix", "factor"), helpers.cases("losses", r"sup_total(_x([\d.]+))?_loss"))
def test_supervised_contrastive_loss_of_both_directions(suffix, factor):
    scaled = [LOSSES[name] * float(factor or 1) for name in ("sup_img", "sup_text")]
    noise = 5e-5 if suffix else 0.0  # logits of several hundred: float32 itself is off by 1e-5 on either side
    _assert_losses(_both_ways, scaled, f"sup_total{suffix}", noise)


@pytest.mark.parametrize(("key",), helpers.cases("losses", r"(sup_rect)_loss"))
def test_supervised_contrastive_loss_with_fewer_anchors(key):
    targets = LOSSES["sup_rect_ty"]
    _assert_losses(
        lambda texts, images: supervised_contrastive_loss(texts, images, targets, LOSSES["y"]),
        [LOSSES["sup_text"][: len(targets)], "sup_img"],
        key,
    )


def _stage2(scores, feats, i2t=None, id_weight=0.25, smoothing=0.1, margin=0.3):
    y = LOSSES["y"]
    total = id_weight * sum(identity_loss(score, y, smoothing) for score in scores)
    total = total + sum(batch_hard_triplet_loss(feat, y, margin) for feat in feats)
    return total if i2t is None else total + identity_loss(i2t, y, smoothing)


@pytest.mark.parametrize(("kind", "smooth", "soft"), helpers.cases("losses", r"s2_(vit|cnn)_ls([01])_soft([01])_loss"))
def test_stage_2_total(kind, smooth, soft):
    options = {
        "id_weight": {"vit": 0.25, "cnn": 1.0}[kind],
        "smoothing": 0.1 * int(smooth),
        "margin": None if soft == "1" else 0.3,
    }
    names = ["s2_score0", "s2_score1", "s2_i2t", "s2_feat0", "s2_feat1", "s2_feat2"]
    _assert_losses(
        lambda score0, score1, i2t, *feats: _stage2([score0, score1], feats, i2t, **options),
        names,
        f"s2_{kind}_ls{smooth}_soft{soft}",
    )


@pytest.mark.parametrize(("key",), helpers.cases("losses", r"(s2_vit_noi2t)_loss"))
def test_stage_2_total_without_text(key):
    names = ["s2_score0", "s2_score1", "s2_feat0", "s2_feat1", "s2_feat2"]
    _assert_losses(lambda *inputs: _stage2(inputs[:2], inputs[2:]), names, key)


@pytest.mark.parametrize(("key",), helpers.cases("losses", r"(s2_vit_tensor)_loss"))
def test_stage_2_total_of_one_score_and_one_feature(key):
    names = ["s2_score0", "s2_feat0", "s2_i2t"]
    _assert_losses(lambda score, feat, i2t: _stage2([score], [feat], i2t), names, key)


@pytest.mark.parametrize(("temperature",), helpers.cases("losses", r"simclr_t([\d.]+)_loss"))
def test_simclr_loss(temperature):
    key = f"simclr_t{temperature}"
    _assert_losses(lambda a, b: simclr_loss(a, b, float(temperature)), ["ssl_a1", "ssl_a2"], key)


@pytest.mark.parametrize(("rows",), helpers.cases("losses", r"simclr_n(\d+)_loss"))
def test_simclr_loss_of_few_rows(rows):
    inputs = [LOSSES[name][: int(rows)] for name in ("ssl_a1", "ssl_a2")]
    _assert_losses(lambda a, b: simclr_loss(a, b, 0.1), inputs, f"simclr_n{rows}")


SSL_INPUTS = ["ssl_a1", "ssl_a2", "ssl_z1", "ssl_z2"]


@pytest.mark.parametrize(("key",), helpers.cases("losses", r"(simsiam)_loss"))
def test_simsiam_loss(key):
    _assert_losses(simsiam_loss, SSL_INPUTS, key)


@pytest.mark.parametrize(("key",), helpers.cases("losses", r"(simsiam_min)_loss"))
def test_simsiam_min_loss(key):
    shape = LOSSES[f"{key}_grad0"].shape
    _assert_losses(simsiam_min_loss, [LOSSES[name].reshape(shape) for name in SSL_INPUTS], key)


@pytest.mark.parametrize(("key",), helpers.cases("losses", r"(svll_s1)_loss"))
def test_stage_1_total_with_self_supervision(key):
    distinct = len(LOSSES["y"].unique())
    _assert_losses(
        lambda images, texts, a1, a2: _both_ways(images, texts) + 0.8 * simclr_loss(a1, a2, 0.1),
        ["sup_img", "sup_text", LOSSES["ssl_a1"][:distinct], LOSSES["ssl_a2"][:distinct]],
        key,
    )


@pytest.mark.parametrize(("kind", "smooth"), helpers.cases("losses", r"svll_s2_(SIMCLR|SIMSIAM)_ls([01])_loss"))
def test_stage_2_total_with_self_supervision(kind, smooth):
    def loss(score0, score1, i2t, feat0, feat1, feat2, a1, a2, z1, z2):
        plain = _stage2([score0, score1], [feat0, feat1, feat2], i2t, smoothing=0.1 * int(smooth))
        return plain + 0.8 * (simclr_loss(a1, a2, 0.1) if kind == "SIMCLR" else simsiam_loss(a1, a2, z1, z2))

    names = ["s2_score0", "s2_score1", "s2_i2t", "s2_feat0", "s2_feat1", "s2_feat2", *SSL_INPUTS]
    _assert_losses(loss, names, f"svll_s2_{kind}_ls{smooth}")
