import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from reid_core.modeling.losses import (
    batch_hard_triplet_loss,
    identity_loss,
    prototype_contrastive_loss,
    supervised_contrastive_loss,
)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 9999), batch=st.integers(2, 12), margin=st.sampled_from([None, 0.0, 0.3, 5.0]))
def test_triplet_matches_a_loop(seed, batch, margin):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, 5, generator=generator)
    targets = torch.randint(3, (batch,), generator=generator)
    expected = []
    for anchor in range(batch):
        distances = (features - features[anchor]).norm(dim=1).clamp(min=1e-6)
        same = targets == targets[anchor]
        positive = distances[same].max()
        negative = distances[~same].min() if (~same).any() else torch.tensor(math.inf)
        gap = positive - negative
        expected.append(F.softplus(gap) if margin is None else (gap + margin).clamp(min=0))
    ours = batch_hard_triplet_loss(features, targets, margin)
    torch.testing.assert_close(ours, torch.stack(expected).mean(), rtol=1e-3, atol=1e-3)


@given(smoothing=st.floats(0, 0.9), seed=st.integers(0, 999))
def test_smoothing_spreads_the_target(smoothing, seed):
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(seed))
    targets = torch.tensor([0, 6, 3, 3])
    soft = F.one_hot(targets, 7) * (1 - smoothing) + smoothing / 7
    expected = -(soft * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(identity_loss(logits, targets, smoothing), expected)


def test_prototypes_get_no_gradient_and_a_smaller_temperature_is_sharper():
    features = F.normalize(torch.randn(4, 6), dim=1).requires_grad_()
    prototypes = F.normalize(torch.randn(5, 6), dim=1).requires_grad_()
    targets = (features @ prototypes.T).argmax(dim=1).detach()
    sharp = prototype_contrastive_loss(features, prototypes, targets, 0.05)
    flat = prototype_contrastive_loss(features, prototypes, targets, 1.0)
    assert sharp < flat
    sharp.backward()
    assert prototypes.grad is None
    assert features.grad.abs().sum() > 0


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 9999), anchors=st.integers(1, 6), others=st.integers(1, 8))
def test_supervised_contrastive_matches_a_loop_over_anchors_with_a_positive(seed, anchors, others):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, 5, generator=generator).requires_grad_() for n in (anchors, others))
    a_targets, b_targets = (torch.randint(4, (n,), generator=generator) for n in (anchors, others))
    terms = []
    for row, target in zip(a, a_targets, strict=True):
        logits = b @ row / 0.5
        if (b_targets == target).any():
            terms.append(torch.stack([logits.logsumexp(0) - logits[p] for p in (b_targets == target).nonzero()]).mean())
    loss = supervised_contrastive_loss(a, b, a_targets, b_targets, 0.5)
    torch.testing.assert_close(loss, torch.stack(terms).mean() if terms else torch.tensor(0.0), rtol=1e-4, atol=1e-5)
    loss.backward()
    assert a.grad.isfinite().all() and b.grad.isfinite().all()
    assert bool(a.grad.any()) == bool(terms) or others == 1


def test_sixteen_bit_features_give_a_float32_loss():
    features = F.normalize(torch.randn(4, 6), dim=1)
    loss = prototype_contrastive_loss(features.bfloat16(), features, torch.arange(4), 0.05)
    assert loss.dtype == torch.float32


def test_autocast_does_not_round_distances_and_cosines():
    features = 14 + 0.1 * torch.randn(8, 64)  # far from the origin, near each other
    targets = torch.arange(8) // 2
    unit = F.normalize(features, dim=1)
    exact = batch_hard_triplet_loss(features, targets, 0.3), prototype_contrastive_loss(unit, unit, targets, 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = batch_hard_triplet_loss(features, targets, 0.3), prototype_contrastive_loss(unit, unit, targets, 0.05)
    torch.testing.assert_close(rounded, exact)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: identity_loss(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), 1.0), "label_smoothing"),
        (lambda: prototype_contrastive_loss(*[torch.zeros(1, 1)] * 3, temperature=0.0), "temperature"),
        (lambda: supervised_contrastive_loss(*[torch.zeros(1, 1)] * 4, temperature=-1.0), "temperature"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
