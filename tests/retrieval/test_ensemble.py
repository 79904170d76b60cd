"""Combined features rank by the mean of the models' cosines, or are the mean of their directions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.retrieval import combine_features
from tests.retrieval.plain import unit


def some(*widths, count=7, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((count, width)) * generator.uniform(0.1, 9, (count, 1)) for width in widths]


@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.data())
@settings(max_examples=40, deadline=None)
def test_concatenated_cosines_are_the_weighted_means_of_the_models_own(seed, widths, data):
    features = some(*widths, seed=seed)
    weights = data.draw(st.none() | st.lists(st.floats(0.1, 5), min_size=len(widths), max_size=len(widths)))
    found = combine_features(features, weights=weights).double()
    cosines = [unit(rows) @ unit(rows).T for rows in features]
    np.testing.assert_allclose(found @ found.T, np.average(cosines, axis=0, weights=weights), atol=1e-6)
    assert found.shape == (7, sum(widths))


@pytest.mark.parametrize("weights", [None, [1, 3.0]])
def test_averages_are_those_of_unit_rows(weights):
    features = some(5, 5)
    found = combine_features([features[0].astype(np.float32), torch.from_numpy(features[1])], "average", weights)
    assert found.dtype == torch.float32
    expected = np.average([unit(rows) for rows in features], axis=0, weights=weights)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("how", ["concatenate", "average"])
def test_one_model_is_itself_at_unit_length(how):
    rows = some(4)[0]
    np.testing.assert_allclose(combine_features([rows], how), unit(rows), atol=1e-6)


@pytest.mark.parametrize(
    "features, options, message",
    [
        ([], {}, "no features to combine"),
        (some(4, 4), {"how": "sum"}, "concatenate, average, got 'sum'"),
        (some(4, 5), {"how": "average"}, r"widths cannot be averaged, got shapes \[\[7, 4\], \[7, 5\]\]; concatenate"),
        ([*some(4), *some(4, count=6)], {}, r"of the same images, got shapes \[\[7, 4\], \[6, 4\]\]"),
        (some(4, 4), {"weights": [1.0]}, r"each of the 2 sets of features, got \[1.0\]"),
        (some(4, 4), {"weights": [1.0, 0.0]}, "positive weight"),
        (some(4, 4), {"weights": [1.0, float("nan")]}, "positive weight"),
        ([np.ones((3, 2)), np.zeros((3, 2))], {}, "model 1's features are all zero"),
        ([np.full((3, 2), np.nan)], {}, "model 0's features hold NaN"),
    ],
)
def test_what_cannot_be_combined_is_named(features, options, message):
    with pytest.raises(ValueError, match=message):
        combine_features(features, **options)
