import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from reid_core.modeling.memory import PrototypeBank, ResizableBank, prototype_means


def _random(seed, classes, batch, width=6, duplicates=False):
    generator = torch.Generator().manual_seed(seed)
    bank = F.normalize(torch.randn(classes, width, generator=generator), dim=1)
    features = F.normalize(torch.randn(batch, width, generator=generator), dim=1)
    if duplicates:  # equal features: the earlier sample must win
        features[batch // 2 :] = features[: batch - batch // 2].clone()
    return bank, features, torch.randint(classes, (batch,), generator=generator)


def _plain_loop(rows, features, targets, momentum):
    rows = rows.clone()
    for feature, target in zip(features, targets, strict=True):
        mixed = momentum * rows[target] + (1 - momentum) * feature
        rows[target] = mixed / mixed.norm()
    return rows


def _hard_loop(rows, features, targets, momentum):
    new = rows.clone()
    for identity in targets.unique().tolist():
        mine = features[targets == identity]
        hardest = mine[(mine @ rows[identity]).argmin()]
        mixed = momentum * rows[identity] + (1 - momentum) * hardest
        new[identity] = mixed / mixed.norm()
    return new


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(1, 9),
    batch=st.integers(1, 24),
    momentum=st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]),
    rule=st.sampled_from(["plain", "hard"]),
    duplicates=st.booleans(),
)
def test_update_matches_a_loop(seed, classes, batch, momentum, rule, duplicates):
    rows, features, targets = _random(seed, classes, batch, duplicates=duplicates)
    bank = PrototypeBank(classes, rows.shape[1], momentum, rule)
    bank.prototypes.copy_(rows)
    bank.update(features, targets)
    loop = _plain_loop if rule == "plain" else _hard_loop
    torch.testing.assert_close(bank.prototypes, loop(rows, features, targets, momentum))
    untouched = sorted(set(range(classes)) - set(targets.tolist()))
    assert torch.equal(bank.prototypes[untouched], rows[untouched])


def test_a_bound_on_occurrences_changes_nothing_and_is_checked():
    rows, features, _ = _random(3, 4, 8)
    targets = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    banks = [PrototypeBank(4, rows.shape[1], 0.2, "plain") for _ in range(2)]
    for bank, occurrences in zip(banks, (None, 2), strict=True):
        bank.prototypes.copy_(rows)
        bank.update(features, targets, occurrences)
    assert torch.equal(banks[0].prototypes, banks[1].prototypes)
    with pytest.raises(RuntimeError, match="more often"):
        banks[0].update(features, torch.zeros(8, dtype=torch.int64), 2)


def test_the_update_sends_no_gradient_and_keeps_unit_rows():
    rows, features, targets = _random(1, 5, 12)
    bank = PrototypeBank(5, rows.shape[1], 0.2, "hard")
    bank.prototypes.copy_(rows)
    features.requires_grad_()
    bank.update(features, targets)
    assert not bank.prototypes.requires_grad
    torch.testing.assert_close(bank.prototypes.norm(dim=1), torch.ones(5))


def test_rebuild_ignores_noise_and_order():
    features, targets = torch.randn(40, 6), torch.arange(40) % 7 - 1
    bank = PrototypeBank(6, 6, 0.2, "hard")
    bank.rebuild(features, targets)
    expected = torch.stack([F.normalize(features[targets == label].mean(dim=0), dim=0) for label in range(6)])
    torch.testing.assert_close(bank.prototypes, expected)
    order = torch.randperm(40)
    bank.rebuild(features[order], targets[order])
    torch.testing.assert_close(bank.prototypes, expected)


def test_a_label_without_images_is_named_and_nothing_is_changed():
    bank = PrototypeBank(3, 4, 0.2, "hard")
    before = bank.prototypes.clone()
    with pytest.raises(ValueError, match=r"1 of 3 prototypes have no image \(labels \[1\]\)"):
        bank.rebuild(torch.randn(2, 4), torch.tensor([0, 2]))
    assert torch.equal(bank.prototypes, before)


def test_features_that_cancel_are_refused():
    with pytest.raises(ValueError, match=r"labels \[0\] average to zero"):
        prototype_means(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 0]), 1)


@pytest.mark.parametrize(("momentum", "rule", "message"), [(1.5, "hard", "momentum"), (0.2, "soft", "update_rule")])
def test_bad_arguments(momentum, rule, message):
    with pytest.raises(ValueError, match=message):
        PrototypeBank(2, 2, momentum, rule)


def test_the_bank_is_saved_with_its_owner():
    assert set(PrototypeBank(2, 3, 0.2, "hard").state_dict()) == {"prototypes"}


def test_a_resizable_bank_has_as_many_prototypes_as_there_are_labels():
    bank = ResizableBank(6, 0.2, "plain")
    assert bank.prototypes.shape == (0, 6)
    features = torch.randn(40, 6)
    for count in (5, 9, 2):
        targets = torch.arange(40) % (count + 1) - 1
        bank.rebuild(features, targets)
        fixed = PrototypeBank(count, 6, 0.2, "plain")
        fixed.rebuild(features, targets)
        assert torch.equal(bank.prototypes, fixed.prototypes)
        bank.update(F.normalize(features[:8], dim=1), torch.zeros(8, dtype=torch.int64))
        fixed.update(F.normalize(features[:8], dim=1), torch.zeros(8, dtype=torch.int64))
        assert torch.equal(bank.prototypes, fixed.prototypes)
    before = bank.prototypes.clone()
    with pytest.raises(ValueError, match="1 of 2 prototypes have no image"):
        bank.rebuild(features[:1], torch.tensor([1]))
    assert torch.equal(bank.prototypes, before)


def test_a_resizable_bank_keeps_its_precision():
    bank = ResizableBank(6, 0.2, "plain").double()
    bank.rebuild(torch.randn(4, 6), torch.tensor([0, 1, 1, 0]))
    assert bank.prototypes.dtype == torch.float64 and not bank.prototypes.requires_grad


def test_a_resizable_bank_takes_a_checkpoints_number():
    saved, bank = ResizableBank(6, 0.2, "hard"), ResizableBank(6, 0.2, "hard")
    saved.rebuild(torch.randn(9, 6), torch.arange(9) % 3)
    state, notes = bank.adapt_state_dict(saved.state_dict())
    bank.load_state_dict(state)
    assert notes == [] and torch.equal(bank.prototypes, saved.prototypes)
    other = ResizableBank(4, 0.2, "hard")
    other.adapt_state_dict(saved.state_dict())
    assert other.prototypes.shape == (0, 4), "features of another width are not its prototypes"
