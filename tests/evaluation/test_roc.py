"""The verification curve against scikit-learn's, on exact distances, whatever the block size."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from reid_core.evaluation import evaluate
from tests.evaluation import plain
from tests.evaluation.test_ranking import Vague, random_set

RATES = [0.0, 1e-3, 0.05, 0.2, 1 / 3, 0.5, 1.0]


def closest(rates, shares, asked):
    """As fast-reid reads the curve."""
    return shares[np.argmin(np.abs(rates - asked))]


def assert_curve(arrays, found):
    """Against the exact fractions of all pairs; returns the distances of both kinds of pairs."""
    matching, others = plain.pair_distances(*arrays)
    order = {value: place for place, value in enumerate(sorted({*matching, *others}))}  # as whole numbers: exact
    scores = [order[value] for value in [*matching, *others]]
    labels = [0] * len(matching) + [1] * len(others)
    rates, shares, _ = roc_curve(labels, scores)
    assert (found.num_matching_pairs, found.num_other_pairs) == (len(matching), len(others))
    for asked in RATES:
        assert found.tpr_at[asked] == pytest.approx(closest(rates, shares, asked), abs=1e-12), asked
    points = zip(found.thresholds, found.false_positive_rate, found.true_positive_rate, strict=True)
    exact = {float(value) ** 0.5: value for value in matching}
    for threshold, rate, share in points:
        if threshold == np.inf:
            assert (rate, share) == (0, 0)
            continue
        value = exact[min(exact, key=lambda root: abs(root - threshold))]
        assert rate == pytest.approx(sum(distance >= value for distance in matching) / len(matching), abs=1e-12)
        assert share == pytest.approx(sum(distance >= value for distance in others) / len(others), abs=1e-12)
    assert (np.diff(found.thresholds) < 0).all() and found.false_positive_rate[-1] == 1
    return matching, others


@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 8),
    gallery=st.integers(2, 20),
    identities=st.integers(2, 5),
    levels=st.integers(0, 3),
    block_bytes=st.sampled_from([1, 700, 10**8]),
)
@settings(max_examples=100, deadline=None)
def test_equals_scikit_learn(seed, queries, gallery, identities, levels, block_bytes):
    arrays = random_set(seed, queries, gallery, 2, identities, 3, levels)
    assume(all(plain.pair_distances(*arrays)))
    assert_curve(arrays, evaluate(*arrays, false_positive_rates=RATES, block_bytes=block_bytes).roc)


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("block_bytes", [3000, 10**8])
def test_no_digit_of_the_fast_distances_reaches_the_curve(monkeypatch, levels, block_bytes):
    arrays = random_set(3, width=6, levels=levels)
    monkeypatch.setattr("reid_core.evaluation.ranking.SquaredDistances", Vague)
    assert_curve(arrays, evaluate(*arrays, false_positive_rates=RATES, block_bytes=block_bytes).roc)


def test_a_large_set_has_a_curve_of_fixed_length_and_the_same_ranking():
    arrays = random_set(5, queries=200, gallery=900, width=8, identities=40)
    found = evaluate(*arrays, false_positive_rates=[1e-3, 1e-2], per_query=True)
    assert 33 < len(found.roc.thresholds) < 60
    without = evaluate(*arrays, per_query=True)
    assert (found.mAP, found.mINP, found.num_queries) == (without.mAP, without.mINP, without.num_queries)
    np.testing.assert_array_equal(found.per_query.average_precision, without.per_query.average_precision)
    assert without.roc is None
    parts = evaluate(*arrays, false_positive_rates=[1e-3, 1e-2], block_bytes=9000).roc
    np.testing.assert_array_equal(parts.true_positive_rate, found.roc.true_positive_rate)


def test_the_cosine_has_the_curve_of_unit_features_and_its_own_thresholds():
    arrays = random_set(6, queries=20, gallery=60)
    cosine = evaluate(*arrays, metric="cosine", false_positive_rates=[0.1]).roc
    unit = evaluate(*arrays, normalize=True, false_positive_rates=[0.1]).roc
    assert cosine.tpr_at == unit.tpr_at
    np.testing.assert_allclose(cosine.thresholds, unit.thresholds**2 / 2, rtol=1e-12)


def test_names_in_percent():
    arrays = random_set(6)
    found = evaluate(*arrays, false_positive_rates=[1e-4, 0.05, 0.1]).percentages([1])
    assert list(found)[-3:] == ["TPR@FPR=1e-4", "TPR@FPR=5e-2", "TPR@FPR=1e-1"]
