"""Agreement of clusters with identities, against counting pairs one by one and entropies by their definition."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.evaluation.clustering import clustering_scores


def alone(clusters):
    """Each outlier in a cluster of its own."""
    return [cluster if cluster >= 0 else ("outlier", place) for place, cluster in enumerate(clusters)]


def plain_pairs(labels, clusters):
    clusters = alone(clusters)
    right = wrong = missed = rest = 0
    for one, two in itertools.combinations(range(len(labels)), 2):
        same, together = labels[one] == labels[two], clusters[one] == clusters[two]
        right, wrong = right + (same and together), wrong + (together and not same)
        missed, rest = missed + (same and not together), rest + (not same and not together)
    return right, wrong, missed, rest


def entropy(values):
    return -sum(n / len(values) * math.log(n / len(values)) for n in Counter(values).values())


IMAGES = st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), min_size=1, max_size=25)


@settings(deadline=None, max_examples=80)
@given(images=IMAGES)
def test_equals_the_definitions(images):
    labels, clusters = map(list, zip(*images, strict=True))
    found = clustering_scores(np.array(labels), np.array(clusters))
    right, wrong, missed, rest = plain_pairs(labels, clusters)
    if right + wrong + missed:
        assert found["pairwise_F"] == pytest.approx(100 * right / (right + (wrong + missed) / 2))
        pairs = right + wrong + missed + rest
        chance = (right + wrong) * (right + missed) / pairs
        most = (2 * right + wrong + missed) / 2
        if not math.isclose(most, chance):
            assert found["ARI"] == pytest.approx(100 * (right - chance) / (most - chance))
    both = list(zip(labels, alone(clusters), strict=True))
    parts = entropy(labels), entropy(alone(clusters))
    if sum(parts) > 0:
        assert found["NMI"] == pytest.approx(100 * 2 * (sum(parts) - entropy(both)) / sum(parts), abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(images=IMAGES)
def test_names_of_clusters_do_not_matter_and_the_input_stays(images):
    labels, clusters = (np.array(column) for column in zip(*images, strict=True))
    before = clusters.copy()
    renamed = np.where(clusters < 0, -1, 7 * (9 - clusters))
    assert clustering_scores(labels, renamed) == pytest.approx(clustering_scores(labels, clusters))
    np.testing.assert_array_equal(clusters, before)


def test_the_best_and_leaving_out_what_is_difficult():
    labels = np.array([0, 0, 0, 1, 1, 1])
    perfect = {"NMI": 100.0, "ARI": 100.0, "pairwise_F": 100.0}
    assert clustering_scores(labels, 5 - labels) == pytest.approx(perfect)
    left_out = clustering_scores(labels, np.array([0, 0, -1, 1, 1, -1]))
    assert all(left_out[name] < 100 for name in perfect)
    assert clustering_scores(labels, np.full(6, -1))["pairwise_F"] == 0


@pytest.mark.parametrize(("labels", "clusters"), [([0, 1], [0]), ([], []), ([[0, 1]], [[0, 1]])])
def test_arrays_that_do_not_fit(labels, clusters):
    with pytest.raises(ValueError, match="must be of one length, got shapes"):
        clustering_scores(np.array(labels), np.array(clusters))
