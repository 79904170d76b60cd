"""The streamed metrics are those of the plain protocol, whatever the block size; bad input is named."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reid_core.evaluation import EntryKind, evaluate
from reid_core.retrieval.distance import SquaredDistances
from tests.evaluation import plain
from tests.paths import ROOT


def random_set(seed, queries=12, gallery=40, width=5, identities=6, cameras=3, levels=0):
    """Random features (with `levels`: few distinct values, so many ties) and labels; some junk and distractors."""
    generator = np.random.default_rng(seed)
    arrays = []
    for count in (queries, gallery):
        features = generator.standard_normal((count, width))
        if levels:
            features = generator.integers(0, levels, (count, width)).astype(float)
        pids = generator.integers(-1, identities, count)
        arrays.append((features.astype(np.float32), pids, generator.integers(0, cameras, count)))
    return [column for pair in zip(*arrays, strict=True) for column in pair]


def assert_plain(arrays, **options):
    expected = plain.score(*arrays, camera_rule=options.get("camera_rule", True))
    found = evaluate(*arrays, per_query=True, **options)
    assert found.mAP == pytest.approx(expected["mAP"], rel=1e-12)
    assert found.mINP == pytest.approx(expected["mINP"], rel=1e-12)
    np.testing.assert_allclose(found.cmc, expected["cmc"], rtol=1e-12)
    assert (found.num_queries, found.num_valid_queries) == (len(arrays[0]), expected["valid"])
    for position, ranking in enumerate(expected["rankings"]):
        matches = ranking.matches if ranking else []
        assert found.per_query.first_match_rank[position] == (matches[0] if matches else 0)
        if matches:
            assert found.per_query.average_precision[position] == pytest.approx(plain.average_precision(matches))
            assert found.per_query.inverse_negative_penalty[position] == pytest.approx(len(matches) / matches[-1])
        else:
            assert np.isnan(found.per_query.average_precision[position])
            assert np.isnan(found.per_query.inverse_negative_penalty[position])


@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 8),
    gallery=st.integers(1, 24),
    identities=st.integers(1, 5),
    cameras=st.integers(1, 4),
    levels=st.integers(0, 3),
    block_bytes=st.sampled_from([1, 700, 5000, 10**8]),
    camera_rule=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_equals_the_plain_protocol(seed, queries, gallery, identities, cameras, levels, block_bytes, camera_rule):
    """Ties, junk, queries of a single camera and queries without a match included; with none at all it is an error."""
    arrays = random_set(seed, queries, gallery, 2, identities, cameras, levels)
    assume((arrays[2] != -1).any() and (arrays[3] != -1).any())
    if any(ranking and ranking.matches for ranking in rankings_of(arrays, camera_rule)):
        assert_plain(arrays, block_bytes=block_bytes, camera_rule=camera_rule)
    else:
        with pytest.raises(ValueError, match="None of the .* queries has a true match"):
            evaluate(*arrays, block_bytes=block_bytes, camera_rule=camera_rule)


@given(
    seed=st.integers(0, 10**6),
    value=st.sampled_from([0.0, np.nan, np.inf, -np.inf]),
    side=st.integers(0, 1),
    metric=st.sampled_from(["euclidean", "cosine"]),
)
@settings(max_examples=60, deadline=None)
def test_a_row_that_cannot_be_ranked_is_named_and_one_that_is_junk_is_not_read(seed, value, side, metric):
    arrays = random_set(seed, 8, 24, 3, 4)
    row = seed % len(arrays[side])
    arrays[side][row] = value
    assume(any(ranking and ranking.matches for ranking in rankings_of(cleaned(arrays))))
    if arrays[2 + side][row] == -1 or (value == 0 and metric == "euclidean"):
        unit = cleaned(arrays)
        if metric == "cosine":
            unit[:2] = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in unit[:2]]
        assert evaluate(*arrays, metric=metric).mAP == pytest.approx(plain.score(*unit)["mAP"])
    else:
        problem = f"{('query', 'gallery')[side]} features {'are all zero' if value == 0 else 'hold NaN or infinite'}"
        with pytest.raises(ValueError, match=rf"1 of \d+ {problem}.*position {row}\."):
            evaluate(*arrays, metric=metric)


def cleaned(arrays):
    """The arrays with junk as ones."""
    junk = [np.where(pids[:, None] == -1, 1, rows) for rows, pids in zip(arrays[:2], arrays[2:4], strict=True)]
    return [*(np.nan_to_num(rows, nan=1, posinf=1, neginf=1) for rows in junk), *arrays[2:]]


def rankings_of(arrays, camera_rule=True):
    query, gallery, query_pids, gallery_pids, query_camids, gallery_camids = arrays
    return [
        plain.rank_one(row, gallery, pid, camid, gallery_pids, gallery_camids, camera_rule) if pid != -1 else None
        for row, pid, camid in zip(query, query_pids, query_camids, strict=True)
    ]


def test_a_query_whose_gallery_is_empty_after_filtering_is_not_counted():
    """The only image of the first query's gallery is of its own identity and camera; for the second it is a match."""
    arrays = [np.eye(2, 3), np.ones((1, 3)), [5, 5], [5], [0, 1], [0]]
    found = evaluate(*arrays, per_query=True, top_k=1)
    assert (found.mAP, found.num_valid_queries) == (1.0, 1)
    assert found.per_query.first_match_rank.tolist() == [0, 1]
    assert found.ranked_lists.kinds.tolist() == [[EntryKind.IGNORED], [EntryKind.MATCH]]
    with pytest.raises(ValueError, match="None of the 1 queries.*1 have images.*own camera"):
        evaluate(np.eye(1, 3), np.ones((1, 3)), [5], [5], [0], [0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_same_on_cuda():
    arrays = random_set(3, queries=30, gallery=300, width=64, levels=2)
    options = {"per_query": True, "top_k": 5, "false_positive_rates": [0.01], "block_bytes": 10**5}
    expected, found = (evaluate(*arrays, device=device, **options) for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(found.per_query.average_precision, expected.per_query.average_precision)
    np.testing.assert_array_equal(found.ranked_lists.positions, expected.ranked_lists.positions)
    assert found.roc.tpr_at == expected.roc.tpr_at


def test_without_the_camera_rule_no_camera_is_read():
    arrays = random_set(2)
    expected = evaluate(*arrays, camera_rule=False, top_k=40)
    for columns in ([np.zeros(12, int), np.zeros(40, int)], []):
        found = evaluate(*arrays[:4], *columns, camera_rule=False, top_k=40)
        assert (found.mAP, found.mINP) == (expected.mAP, expected.mINP)
        np.testing.assert_array_equal(found.ranked_lists.kinds, expected.ranked_lists.kinds)
        assert not (found.ranked_lists.kinds[arrays[2] != -1] == EntryKind.IGNORED).any()


@pytest.mark.parametrize("options", [{}, {"camera_rule": False, "camera_pairs": True}])
def test_missing_cameras_are_refused_where_they_are_read(options):
    with pytest.raises(ValueError, match="camera numbers of query or gallery are missing.*camera_rule=False"):
        evaluate(*good_arrays()[:4], **options)


class Vague(SquaredDistances):
    """Blocks as far off as they say, a tenth of the largest distance: all that is exact must come from `exact`."""

    def block(self, rows, columns):
        found = super().block(rows, columns)
        noise = torch.rand(found.shape, generator=torch.Generator().manual_seed(columns.start)) * 2 - 1
        return found + self.off(found) * noise

    def row_error(self, rows, columns):
        return super().row_error(rows, columns) + self.off(super().block(rows, columns))

    def off(self, found):
        return 0.1 * float(found.max())


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("block_bytes", [3000, 10**8])
def test_no_digit_of_the_fast_distances_reaches_the_ranking(monkeypatch, levels, block_bytes):
    arrays = random_set(3, width=6, levels=levels)
    monkeypatch.setattr("reid_core.evaluation.ranking.SquaredDistances", Vague)
    assert_plain(arrays, block_bytes=block_bytes)
    lists = evaluate(*arrays, top_k=5, block_bytes=block_bytes).ranked_lists
    for position, ranking in enumerate(rankings_of(arrays)):
        if ranking is not None:
            assert lists.positions[position].tolist() == ranking.order[:5]


@pytest.mark.parametrize("scale, shift", [(1, 1000), (1e18, 0), (1e-18, 0), (2e38, 0), (1e-40, 0)])
def test_magnitude_and_common_offset_cost_no_precision(scale, shift):
    arrays = random_set(3, width=40)
    for side in (0, 1):
        arrays[side] = (np.clip(arrays[side], -1.5, 1.5) * scale + shift).astype(np.float32)
    assert_plain(arrays)


def test_an_outlier_changes_no_other_rank():
    arrays = random_set(4, width=40)
    arrays[1][7] = 1e12
    assert_plain(arrays, block_bytes=3000)


@pytest.mark.parametrize("block_bytes", [1, 333, 4096, 100_000])
@pytest.mark.parametrize("levels", [0, 2])
def test_block_size_changes_nothing(block_bytes, levels):
    arrays = random_set(7, queries=20, gallery=90, width=24, levels=levels)
    whole = evaluate(*arrays, per_query=True, top_k=7)
    parts = evaluate(*arrays, per_query=True, top_k=7, block_bytes=block_bytes)
    assert (parts.mAP, parts.mINP) == (whole.mAP, whole.mINP)
    for name in ("average_precision", "inverse_negative_penalty", "first_match_rank"):
        np.testing.assert_array_equal(getattr(parts.per_query, name), getattr(whole.per_query, name))
    for name in ("positions", "distances", "kinds"):
        np.testing.assert_array_equal(getattr(parts.ranked_lists, name), getattr(whole.ranked_lists, name))


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_is_bounded_by_the_setting():
    """2000 x 20000: the matrix would take 153 MiB, its sorted indices 305, a float64 copy of the features 78."""
    script = """
import re, numpy, torch
from reid_core.evaluation import evaluate
torch.set_num_threads(1)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
generator = numpy.random.default_rng(0)
sides = [generator.standard_normal((count, 512), dtype=numpy.float32) for count in (2000, 20000)]
pids, camids = ([generator.integers(0, high, len(side)) for side in sides] for high in (700, 6))
evaluate(sides[0][:50], sides[1][:500], pids[0][:50], pids[1][:500], camids[0][:50], camids[1][:500])
before = peak()
evaluate(*sides, *pids, *camids, block_bytes=8 * 2**20)
print(peak() - before)
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert float(output.stdout) < 70


@pytest.mark.parametrize("metric, normalize", [("euclidean", False), ("euclidean", True), ("cosine", False)])
@pytest.mark.parametrize("block_bytes", [1, 5000, 10**8])
def test_copies_of_an_image_tie_exactly(metric, normalize, block_bytes):
    """A wrong copy of the true match comes first if it stands first in the gallery, and second if it stands second."""
    generator = np.random.default_rng(0)
    query = generator.standard_normal((6, 131), dtype=np.float32)
    image = query + generator.standard_normal((6, 131), dtype=np.float32)
    far = 50 + generator.standard_normal((53, 131), dtype=np.float32)
    identities, others = np.arange(6), np.full(6, 77)
    for first, second, rank in ((identities, others, 1), (others, identities, 2)):
        gallery = np.concatenate([image, far, image])
        pids = np.concatenate([first, np.full(53, 88), second])
        found = evaluate(query, gallery, identities, pids, np.zeros(6, int), np.ones(len(pids), int), metric=metric,
                         normalize=normalize, per_query=True, block_bytes=block_bytes)  # fmt: skip
        assert found.per_query.first_match_rank.tolist() == [rank] * 6


@pytest.mark.parametrize("seed", range(5))
def test_order_of_images_does_not_matter_without_ties(seed):
    arrays = random_set(seed, queries=20, gallery=100, width=16)
    generator = np.random.default_rng(seed)
    left, right = generator.permutation(20), generator.permutation(100)
    shuffled = [column[order] for column, order in zip(arrays, [left, right] * 3, strict=True)]
    before, after = evaluate(*arrays, per_query=True), evaluate(*shuffled, per_query=True)
    np.testing.assert_array_equal(after.cmc, before.cmc)
    np.testing.assert_array_equal(after.per_query.average_precision, before.per_query.average_precision[left])
    assert after.mAP == pytest.approx(before.mAP, rel=1e-14)


def test_scaling_to_unit_length_and_cosine_rank_alike():
    arrays = random_set(5, queries=20, gallery=100, width=16)
    unit = [row / np.linalg.norm(row, axis=1, keepdims=True) for row in arrays[:2]]
    expected = plain.score(*unit, *arrays[2:])["mAP"]
    assert evaluate(*arrays, metric="cosine").mAP == pytest.approx(expected)
    assert evaluate(*arrays, normalize=True).mAP == pytest.approx(expected)
    assert evaluate(*arrays).mAP != pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("labels", [torch.int16, torch.int32, torch.uint8])
def test_takes_any_precision_and_any_whole_numbers(dtype, labels):
    arrays = [torch.from_numpy(column) for column in random_set(6)]
    kept = [arrays[2] >= 0, arrays[3] >= 0] * 3
    arrays = [column[keep] for column, keep in zip(arrays, kept, strict=True)]
    given_as = [column.to(dtype) for column in arrays[:2]] + [column.to(labels) for column in arrays[2:]]
    expected = plain.score(*(column.float().numpy() for column in given_as[:2]), *(c.numpy() for c in arrays[2:]))
    assert evaluate(*given_as).mAP == pytest.approx(expected["mAP"])
    if dtype != torch.bfloat16:
        assert evaluate(*(column.numpy() for column in given_as)).mAP == pytest.approx(expected["mAP"])


def test_takes_read_only_strided_and_tracked_features_and_changes_none():
    arrays = random_set(6)
    expected = evaluate(*arrays).mAP
    frozen = [column.copy() for column in arrays]
    for column in frozen:
        column.flags.writeable = False
    assert evaluate(*frozen, normalize=True).mAP == evaluate(*arrays, normalize=True).mAP
    strided = [np.repeat(column, 2, axis=1)[:, ::2] for column in arrays[:2]]
    assert evaluate(*strided, *arrays[2:]).mAP == expected
    tracked = [torch.from_numpy(column).requires_grad_() for column in arrays[:2]]
    assert evaluate(*tracked, *map(list, arrays[2:])).mAP == expected


def test_the_callers_precision_settings_neither_matter_nor_change():
    arrays = random_set(8, queries=40, gallery=400, width=300)
    expected = evaluate(*arrays).mAP
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert evaluate(*arrays).mAP == expected
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_junk_is_never_read():
    arrays = random_set(9)
    arrays[2][5] = arrays[3][7] = -1
    expected = evaluate(*arrays, per_query=True, top_k=50)
    for side in (0, 1):
        arrays[side][arrays[2 + side] == -1] = np.nan
    found = evaluate(*arrays, per_query=True, top_k=50)
    assert found.mAP == expected.mAP
    junk = np.flatnonzero(arrays[3] == -1)
    lists = found.ranked_lists
    assert not np.isin(lists.positions, junk).any()
    assert (lists.positions[arrays[2] == -1] == -1).all()
    assert lists.positions.shape[1] == len(arrays[3]) - len(junk)  # top_k is cut to what there is


@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("block_bytes", [1, 2000, 10**8])
def test_ranked_lists_are_the_plain_order(levels, block_bytes):
    arrays = random_set(10, levels=levels)
    query, gallery, query_pids, gallery_pids, query_camids, gallery_camids = arrays
    lists = evaluate(*arrays, top_k=9, block_bytes=block_bytes).ranked_lists
    for position, ranking in enumerate(rankings_of(arrays)):
        if ranking is None:
            continue
        assert lists.positions[position].tolist() == ranking.order[:9]
        for index, distance, kind in zip(*(column[position] for column in vars(lists).values()), strict=True):
            assert distance == pytest.approx(np.linalg.norm(query[position] - gallery[index]), abs=1e-6)
            same = gallery_pids[index] == query_pids[position]
            own = same and gallery_camids[index] == query_camids[position]
            assert kind == (EntryKind.IGNORED if own else EntryKind.MATCH if same else EntryKind.WRONG)


def test_cosine_distances_in_ranked_lists():
    arrays = random_set(11)
    lists = evaluate(*arrays, metric="cosine", top_k=1).ranked_lists
    position = int(np.flatnonzero(arrays[2] != -1)[0])
    left, right = arrays[0][position].astype(float), arrays[1][lists.positions[position, 0]].astype(float)
    cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
    assert lists.distances[position, 0] == pytest.approx(1 - cosine, abs=1e-6)


def test_cmc_keeps_its_length_in_a_small_gallery():
    found = evaluate(np.eye(2), np.eye(2), [0, 1], [0, 1], [0, 0], [1, 1], max_rank=5)
    assert found.cmc.tolist() == [1.0] * 5
    assert found.per_query is None
    assert found.ranked_lists is None


def good_arrays():
    arrays = random_set(12)
    arrays[2][:] = 0
    arrays[3][:5] = 0
    return arrays


@pytest.mark.parametrize("side, name", [(0, "query"), (1, "gallery")])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_named(side, name, value):
    arrays = good_arrays()
    arrays[3][:] = 0
    arrays[side][[4, 9], 2] = value
    with pytest.raises(ValueError, match=rf"2 of {len(arrays[side])} {name} features.*first at position 4, 9\."):
        evaluate(*arrays)


def test_positions_in_errors_count_junk():
    arrays = good_arrays()
    arrays[3][:] = 0
    arrays[3][:4] = -1
    arrays[1][6] = np.nan
    with pytest.raises(ValueError, match="gallery features.*position 6"):
        evaluate(*arrays)


def test_an_overflow_to_infinity_in_float32_is_named():
    arrays = good_arrays()
    query = arrays[0].astype(np.float64)
    query[3] = 1e300
    with pytest.raises(ValueError, match="1 of 12 query features hold NaN or infinite.*position 3"):
        evaluate(query, *arrays[1:])


@pytest.mark.parametrize("options", [{"metric": "cosine"}, {"normalize": True}])
def test_rows_of_zeros_are_named_where_they_have_no_direction(options):
    arrays = good_arrays()
    arrays[0][:7] = 0
    with pytest.raises(ValueError, match=r"7 of 12 query features are all zero.*position 0, 1, 2, 3, 4, \.\.\."):
        evaluate(*arrays, **options)
    evaluate(*arrays)


def test_a_set_of_one_camera_is_explained():
    arrays = good_arrays()
    arrays[4][:], arrays[5][:] = 0, 0
    arrays[2][:3] = 99
    with pytest.raises(ValueError, match="of the 12 queries.*9 have images.*own camera.*3 have none.*single camera"):
        evaluate(*arrays)


@pytest.mark.parametrize(
    "position, value, message",
    [
        (0, np.zeros((12, 4), np.float32), "Query features have width 4, gallery features 5"),
        (0, np.zeros(12, np.float32), "query features must be a matrix.*shape .12."),
        (1, np.zeros((0, 5), np.float32), "gallery features must be a matrix.*shape .0, 5."),
        (0, np.zeros((12, 5), np.int64), "query features must be floating-point numbers, got int64"),
        (1, torch.zeros((40, 5), dtype=torch.int8), "gallery features must be floating-point numbers"),
        (2, np.zeros(11, int), r"query pids have shape \[11\], but there are 12 feature rows"),
        (3, np.zeros((40, 1), int), r"gallery pids have shape \[40, 1\]"),
        (4, np.zeros(12), "query camids must be whole numbers, got float64"),
        (5, torch.zeros(40, dtype=torch.bool), "gallery camids must be whole numbers, got bool"),
        (3, np.full(40, -1), "All 40 gallery images have identity -1"),
    ],
)
def test_input_that_does_not_fit_is_refused(position, value, message):
    arrays = good_arrays()
    arrays[position] = value
    with pytest.raises(ValueError, match=message):
        evaluate(*arrays)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"metric": "manhattan"}, "euclidean, cosine, got 'manhattan'"),
        ({"max_rank": 0}, "max_rank=0"),
        ({"block_bytes": 0}, "block_bytes=0"),
        ({"top_k": -1}, "top_k=-1"),
        ({"false_positive_rates": [0.1, 1.5]}, r"shares from 0 to 1, got \[0.1, 1.5\]"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*good_arrays(), **options)
