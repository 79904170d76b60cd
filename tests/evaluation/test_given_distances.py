"""Given distances are ranked as a plain loop ranks them, and as `evaluate` ranks its own, however they are cut up."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.evaluation import EntryKind, evaluate, evaluate_distances
from reid_core.retrieval.distance import SquaredDistances
from tests.evaluation import plain
from tests.evaluation.test_ranking import random_set
from tests.paths import ROOT


def random_distances(seed, queries=12, gallery=40, levels=0, **options):
    """A matrix (with `levels`: of few distinct values, negative ones too) and labels."""
    generator = np.random.default_rng(seed)
    distances = generator.standard_normal((queries, gallery))
    if levels:
        distances = generator.integers(-levels, levels, (queries, gallery)).astype(float)
    return distances, random_set(seed, queries, gallery, 2, **options)[2:]


def cut(distances, generator):
    """The rows in blocks of random heights, some of none."""
    ends = np.sort(generator.integers(0, len(distances) + 1, generator.integers(0, 5)))
    for start, stop in zip([0, *ends], [*ends, len(distances)], strict=True):
        yield slice(int(start), int(stop)), distances[start:stop]


def plain_matches(distances, labels, camera_rule):
    """Ranks of the true matches of each query, [] without one and for junk."""
    query_pids, gallery_pids, query_camids, gallery_camids = labels
    matches = []
    for row, pid, camid in zip(distances, query_pids, query_camids, strict=True):
        order = sorted((i for i in range(len(row)) if gallery_pids[i] != -1), key=lambda i: (row[i], i))
        kept = [i for i in order if not (camera_rule and gallery_pids[i] == pid and gallery_camids[i] == camid)]
        matches.append([rank + 1 for rank, i in enumerate(kept) if pid != -1 and gallery_pids[i] == pid])
    return matches


@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 9),
    gallery=st.integers(1, 24),
    identities=st.integers(1, 5),
    cameras=st.integers(1, 3),
    levels=st.integers(0, 3),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    block_bytes=st.sampled_from([1, 3000, 10**8]),
    camera_rule=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_equals_a_plain_loop(seed, queries, gallery, identities, cameras, levels, dtype, block_bytes, camera_rule):
    distances, labels = random_distances(seed, queries, gallery, levels, identities=identities, cameras=cameras)
    distances = distances.astype(dtype)
    matches = plain_matches(distances, labels, camera_rule)
    blocks = cut(distances, np.random.default_rng(seed))
    options = {"camera_rule": camera_rule, "block_bytes": block_bytes}
    if not any(matches):
        with pytest.raises(ValueError, match="has a true match|there is nothing to rank"):
            evaluate_distances(blocks, *labels, **options)
        return
    found = evaluate_distances(blocks, *labels, per_query=True, **options)
    counted = [ranks for ranks in matches if ranks]
    assert found.mAP == pytest.approx(sum(map(plain.average_precision, counted)) / len(counted), rel=1e-12)
    assert found.mINP == pytest.approx(sum(len(ranks) / ranks[-1] for ranks in counted) / len(counted), rel=1e-12)
    assert found.cmc[0] == pytest.approx(sum(ranks[0] == 1 for ranks in counted) / len(counted))
    assert (found.num_queries, found.num_valid_queries) == (queries, len(counted))
    assert found.per_query.first_match_rank.tolist() == [ranks[0] if ranks else 0 for ranks in matches]
    for precision, ranks in zip(found.per_query.average_precision, matches, strict=True):
        assert precision == pytest.approx(plain.average_precision(ranks)) if ranks else np.isnan(precision)


@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("camera_rule", [True, False])
def test_is_what_evaluate_makes_of_the_same_distances(levels, camera_rule):
    arrays = random_set(3, queries=30, gallery=90, levels=levels)
    query, gallery = (torch.from_numpy(side) for side in arrays[:2])
    rows, columns = torch.arange(30), torch.arange(90)
    pairs = SquaredDistances(query, gallery).exact(rows.repeat_interleave(90), columns.repeat(30))
    distances = pairs.sqrt().view(30, 90)
    blocks = [(slice(0, 7), distances[:7]), (slice(7, 30), distances[7:])]
    options = {"camera_rule": camera_rule, "per_query": True, "top_k": 9}
    expected = evaluate(*arrays, **options)
    found = evaluate_distances(blocks, *arrays[2:], **options)
    assert (found.mAP, found.mINP) == (expected.mAP, expected.mINP)
    np.testing.assert_array_equal(found.cmc, expected.cmc)
    for part in ("per_query", "ranked_lists"):
        for name, column in vars(getattr(expected, part)).items():
            np.testing.assert_array_equal(getattr(getattr(found, part), name), column)
    assert (found.ranked_lists.kinds == EntryKind.IGNORED).any() == True  # noqa: E712 - numpy's own


def test_the_blocks_stay_as_they_were():
    distances, labels = random_distances(1)
    before = distances.copy()
    distances.flags.writeable = False
    evaluate_distances([(slice(0, 12), distances)], *labels, top_k=3)
    np.testing.assert_array_equal(distances, before)


def test_cameras_may_be_missing_without_the_rule():
    distances, labels = random_distances(2)
    expected = evaluate_distances(cut(distances, np.random.default_rng(0)), *labels, camera_rule=False)
    found = evaluate_distances([(slice(0, 12), distances)], *labels[:2], camera_rule=False)
    assert found.mAP == expected.mAP
    with pytest.raises(ValueError, match="camera numbers of query or gallery are missing"):
        evaluate_distances([(slice(0, 12), distances)], *labels[:2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_distances_that_are_no_numbers_are_named_and_those_of_junk_not_read(value):
    distances, labels = random_distances(4)
    expected = evaluate_distances([(slice(0, 12), distances)], *labels)
    distances[labels[0] == -1] = value
    distances[:, labels[1] == -1] = value
    found = evaluate_distances([(slice(0, 12), distances)], *labels)
    assert found.mAP == expected.mAP
    rows = np.flatnonzero(labels[0] != -1)[[1, 3]]
    distances[rows, np.flatnonzero(labels[1] != -1)[0]] = value
    with pytest.raises(
        ValueError, match=rf"distances of 2 queries hold NaN or infinite.*position {rows[0]}, {rows[1]}\."
    ):
        evaluate_distances([(slice(0, 12), distances)], *labels)


def blocks_of(*heights, width=40, dtype=np.float64):
    ends = np.cumsum([0, *heights])
    return [(slice(int(a), int(b)), np.zeros((b - a, width), dtype)) for a, b in itertools.pairwise(ends)]


@pytest.mark.parametrize(
    "blocks, message",
    [
        (blocks_of(5, 6), "came for 11 of 12 queries"),
        (blocks_of(5, 7)[1:], "rows 5 to 12 of shape .7, 40. came behind row 0"),
        (blocks_of(5, 7)[::-1], "rows 5 to 12"),
        (blocks_of(12, width=39), r"\[rows, 40\] each; .* of shape .12, 39."),
        (blocks_of(13), "came for 13 of 12"),
        (blocks_of(12, dtype=np.int64), "floating-point numbers, got torch.int64"),
    ],
)
def test_blocks_that_are_not_all_rows_in_order_are_refused(blocks, message):
    with pytest.raises(ValueError, match=message):
        evaluate_distances(blocks, *random_distances(1)[1])


def test_labels_that_do_not_fit_are_refused():
    distances, labels = random_distances(1)
    with pytest.raises(ValueError, match=r"query camids have shape \[3\], but there are 12 identities"):
        evaluate_distances([(slice(0, 12), distances)], *labels[:2], labels[2][:3], labels[3])
    with pytest.raises(ValueError, match="max_rank=0"):
        evaluate_distances([(slice(0, 12), distances)], *labels, max_rank=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_same_on_cuda():
    distances, labels = random_distances(5, levels=2)
    blocks = [(slice(0, 12), distances)]
    expected, found = (evaluate_distances(blocks, *labels, per_query=True, device=device) for device in (None, "cuda"))
    np.testing.assert_array_equal(found.per_query.average_precision, expected.per_query.average_precision)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_is_that_of_a_block():
    """1000 x 40000 distances of 4 bytes are 153 MiB, their sorted indices twice that."""
    script = """
import re, numpy, torch
from reid_core.evaluation import evaluate_distances
torch.set_num_threads(1)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
generator = numpy.random.default_rng(0)
def blocks(queries, gallery):
    for start in range(0, queries, 50):
        yield slice(start, start + 50), generator.random((50, gallery), dtype=numpy.float32)
labels = [generator.integers(0, high, count) for high in (2000, 6) for count in (1000, 40000)]
evaluate_distances(blocks(50, 1000), *(column[:size] for column, size in zip(labels, (50, 1000) * 2)))
before = peak()
evaluate_distances(blocks(1000, 40000), *labels, block_bytes=8 * 2**20)
print(peak() - before)
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert float(output.stdout) < 60
