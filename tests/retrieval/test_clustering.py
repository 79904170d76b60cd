"""Sparse Jaccard neighbours and the labels on them are those of the dense matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from reid_core.retrieval import center_cameras, jaccard_neighbours, pseudo_labels
from tests.retrieval import plain


def random_rows(seed, count, levels):
    generator = np.random.default_rng(seed)
    rows = generator.integers(1, 1 + levels, (count, 3)) if levels else generator.standard_normal((count, 3))
    return rows.astype(np.float32)


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 20),
    k1=st.integers(1, 30),
    k2=st.integers(1, 30),
    eps=st.floats(0.05, 0.95),
    min_samples=st.integers(1, 5),
    levels=st.integers(0, 3),
    block_bytes=st.sampled_from([1, 3000, 10**7]),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_dense_computation(seed, count, k1, k2, eps, min_samples, levels, block_bytes):
    rows = random_rows(seed, count, levels)
    dense = plain.cluster_distances(rows, k1, k2)
    if (np.abs(dense - eps) < 1e-5).any():  # rounding may decide either way
        return
    graph = jaccard_neighbours(rows, eps, k1, k2, block_bytes=block_bytes)
    stored = np.zeros_like(dense, dtype=bool)
    stored[np.repeat(np.arange(count), np.diff(graph.indptr)), graph.indices] = True
    np.testing.assert_array_equal(stored, dense <= eps)
    np.testing.assert_allclose(graph.toarray()[stored], dense[stored], atol=3e-6)
    labels = pseudo_labels(rows, eps, min_samples, k1, k2, block_bytes=block_bytes)
    expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(dense.clip(0)).labels_
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.int64


def test_separate_identities_are_found(clustered):
    rows, truth = (clustered(150, width=32, identities=6, noise=noise) for noise in (0.2, 0.0))
    _, truth = np.unique(truth, axis=0, return_inverse=True)
    labels = pseudo_labels(rows, 0.5, 4, 15, 6)
    assert set(labels.tolist()) == set(range(6))
    assert len({*zip(labels.tolist(), truth.ravel().tolist(), strict=True)}) == 6
    np.testing.assert_array_equal(pseudo_labels(torch.from_numpy(rows).double(), 0.5, 4, 15, 6), labels)


def test_more_copies_than_neighbours_are_one_cluster(clustered):
    rows = clustered(100, identities=20)
    rows[:50] = rows[0]
    labels = pseudo_labels(rows, 0.5, 4, 10, 3)
    assert len(set(labels[:10].tolist())) == 1
    assert labels[0] != -1
    everything = pseudo_labels(np.ones((40, 3)), 0.5, 4, 60, 60)  # k1 beyond the number of images: all are neighbours
    assert (everything == 0).all()


def test_length_does_not_matter_and_the_input_stays(clustered):
    rows = clustered(80)
    before = rows.copy()
    labels = pseudo_labels(rows, 0.5, 4, 10, 3)
    np.testing.assert_array_equal(pseudo_labels(rows * 1000, 0.5, 4, 10, 3), labels)
    np.testing.assert_array_equal(rows, before)


def test_bad_input_is_named(clustered):
    rows = clustered(30)
    for eps in (0, 1, -0.5, np.nan):
        with pytest.raises(ValueError, match=rf"eps in \(0, 1\).*eps={eps}"):
            pseudo_labels(rows, eps)
    for options in ({"k1": 0}, {"k2": 0}, {"min_samples": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            pseudo_labels(rows, 0.5, **options)
    rows[[4, 8]] = 0
    with pytest.raises(ValueError, match="2 of 30 training features are all zero.*position 4, 8"):
        pseudo_labels(rows, 0.5)
    rows[5, 5] = np.inf
    with pytest.raises(ValueError, match="1 of 30 training features hold NaN or infinite.*position 5"):
        pseudo_labels(rows, 0.5)


@given(seed=st.integers(0, 10**6), count=st.integers(1, 20), cameras=st.integers(1, 5), scale=st.floats(0.1, 100))
@settings(max_examples=40, deadline=None)
def test_cameras_lose_their_mean(seed, count, cameras, scale):
    rows = random_rows(seed, count, 0)
    camids = 3 * np.random.default_rng(seed).integers(0, cameras, count) - 1
    found = center_cameras(rows * np.float32(scale), camids)
    assert found.dtype == torch.float32
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for camera in np.unique(camids):
        own = unit[camids == camera]
        expected = own - own.mean(axis=0) if len(own) > 1 else own  # an image alone stays
        np.testing.assert_allclose(found[camids == camera], expected, atol=1e-5)
    assert torch.equal(found, center_cameras(torch.from_numpy(rows * np.float32(scale)), torch.from_numpy(camids)))


def test_identities_that_cameras_hid_are_found_when_centred():
    """The same eight identities before two cameras that look very different."""
    generator = np.random.default_rng(3)
    truth, camids = np.repeat(np.arange(8), 12), np.tile([0, 1], 48)
    rows = np.eye(8, 32)[truth] + 0.05 * generator.standard_normal((96, 32))
    rows[:, 20] += np.where(camids, 3, -3)
    plain_labels = pseudo_labels(rows, 0.5, 4, 12, 3)
    assert {*camids[plain_labels == plain_labels[0]]} != {0, 1}, "a cluster lies within a camera"
    found = pseudo_labels(center_cameras(rows, camids), 0.5, 4, 12, 3)
    np.testing.assert_array_equal(found, truth)


def test_every_image_needs_a_camera(clustered):
    with pytest.raises(ValueError, match=r"a camera for each of 30 images, got shape \[29\]"):
        center_cameras(clustered(30), np.zeros(29, dtype=np.int64))
