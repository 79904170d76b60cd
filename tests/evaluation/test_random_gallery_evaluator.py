"""Means over random galleries, against a loop over Python's exact fractions; the draws themselves."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reid_core.config import get_cfg
from reid_core.evaluation import RandomGalleryEvaluator, evaluate
from reid_core.evaluation.drawn_galleries import draw_gallery
from reid_core.registry import EVALUATOR_REGISTRY
from reid_core.structures import ReIDImage
from tests.evaluation import plain

QUERY_PIDS = [4, 4, 4, 7, 7, 9, 9, 9, 9]
GALLERY_PIDS = [9, 4, 7, 2]  # identity 2 has a single image
PINNED = [35, 1, 23, 31, 11, 33, 6]  # of 40 images of the identities 0..6 in turn, seed 3, draw 2


def features_of(seed, levels=0):
    generator = np.random.default_rng(seed)
    shapes = (len(QUERY_PIDS), 3), (len(GALLERY_PIDS), 3)
    if levels:  # few distinct values: ties
        return [generator.integers(1, 1 + levels, shape).astype(np.float32) for shape in shapes]
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]


def build(*overrides, query_pids=QUERY_PIDS, gallery_pids=GALLERY_PIDS, cameras=(0, 1)):
    cfg = get_cfg()
    cfg.merge_from_list(list(overrides))
    query, gallery = (
        [ReIDImage(f"{side}{number}.jpg", pid, camera) for number, pid in enumerate(pids)]
        for side, pids, camera in zip("qg", (query_pids, gallery_pids), cameras, strict=True)
    )
    dataset = SimpleNamespace(name="Tiny", query=query, gallery=gallery)
    return EVALUATOR_REGISTRY.build("RandomGalleryEvaluator", cfg, dataset=dataset)


def plain_draws(features, seed, galleries, rank=1):
    """mAP, mINP and CMC of every draw, one image at a time, in percent."""
    rows = np.concatenate(features)
    pids = QUERY_PIDS + GALLERY_PIDS
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = []
    for draw in range(galleries):
        chosen = draw_gallery(torch.tensor(pids), seed, draw).tolist()
        others = [position for position in range(len(pids)) if position not in chosen]
        assert not any(pids[position] == 2 for position in others)
        matches = []
        for position in others:
            order = sorted(
                range(len(chosen)), key=lambda i: (plain.squared_distance(rows[position], rows[chosen[i]]), i)
            )
            matches.append([1 + [pids[chosen[i]] for i in order].index(pids[position])])
        scores.append(
            {
                "mAP": 100 * sum(map(plain.average_precision, matches)) / len(matches),
                "mINP": 100 * sum(1 / ranks[0] for ranks in matches) / len(matches),
                f"rank{rank}": 100 * sum(ranks[0] <= rank for ranks in matches) / len(matches),
            }
        )
    return scores


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_plain_loop_over_the_draws(seed):
    features = features_of(seed)
    words = "TEST.GALLERY_SEED", str(seed), "TEST.CMC_RANKS", "[2]", "TEST.RANDOM_GALLERIES", "4"
    found = build(*words).evaluate(*features)
    expected = plain_draws(features, seed, galleries=4, rank=2)
    assert list(found) == ["mAP", "mINP", "rank2", "mAP_std", "mINP_std", "rank2_std"]
    assert all(type(value) is float for value in found.values())
    for key in ("mAP", "mINP", "rank2"):
        column = [draw[key] for draw in expected]
        mean = sum(column) / 4
        assert found[key] == pytest.approx(mean)
        assert found[f"{key}_std"] == pytest.approx((sum((v - mean) ** 2 for v in column) / 4) ** 0.5, abs=1e-6)
    assert found["mAP_std"] > 0


def test_ties_keep_the_order_of_the_identities():
    features = [np.ones((len(pids), 2), dtype=np.float32) for pids in (QUERY_PIDS, GALLERY_PIDS)]
    found = build("TEST.CMC_RANKS", "[1, 2, 3]").evaluate(*features)
    # All images alike: the gallery is 2, 4, 7, 9, so that the 3 queries of 4 have rank 2, the 2 of 7 rank 3, 4 of 9 4.
    assert (found["rank1"], found["rank2"], found["rank3"]) == pytest.approx((0, 100 * 3 / 9, 100 * 5 / 9))
    assert found["mAP"] == pytest.approx(100 * (3 / 2 + 2 / 3 + 4 / 4) / 9) and found["mAP_std"] == pytest.approx(0)


def test_the_config_says_how_many_and_the_seed_which():
    features = features_of(0)
    assert get_cfg().TEST.RANDOM_GALLERIES == 10
    one = build("TEST.RANDOM_GALLERIES", "1").evaluate(*features)
    assert one["mAP_std"] == 0
    assert build().evaluate(*features) == build().evaluate(*features)
    assert build("TEST.GALLERY_SEED", "2").evaluate(*features) != build("TEST.GALLERY_SEED", "3").evaluate(*features)
    assert build("TEST.GALLERY_SEED", "-3").evaluate(*features)  # negative seeds are allowed elsewhere too


@pytest.mark.parametrize("options", [("TEST.METRIC", "cosine", "TEST.NORMALIZE_FEATURES", "False"), ()])
def test_lengths_do_not_matter_where_they_should_not(options):
    query, gallery = features_of(1)
    scale = np.random.default_rng(2).integers(1, 9, (len(query), 1)).astype(np.float32)
    assert build(*options).evaluate(query * scale, gallery) == pytest.approx(build(*options).evaluate(query, gallery))
    plain_metric = build("TEST.NORMALIZE_FEATURES", "False")
    assert plain_metric.evaluate(query * scale, gallery) != plain_metric.evaluate(query, gallery)


def test_cameras_do_not_matter():
    features = features_of(3)
    assert build(cameras=(0, 0)).evaluate(*features) == build(cameras=(0, 1)).evaluate(*features)
    results = build(cameras=(0, 0)).rank(*features, top_k=3)
    assert results.mAP == build(cameras=(5, 9)).rank(*features).mAP


def test_the_ranking_for_a_report_is_of_the_datasets_own_split():
    features = features_of(3)
    labels = QUERY_PIDS, GALLERY_PIDS, [0] * len(QUERY_PIDS), [1] * len(GALLERY_PIDS)
    expected = evaluate(*features, *labels, normalize=True)
    results = build().rank(*features, top_k=2)
    assert results.mAP == expected.mAP and results.ranked_lists.positions.shape == (len(QUERY_PIDS), 2)
    found = build("TEST.PER_QUERY", "True").evaluate(*features)
    assert np.mean(found["per_query"]["AP"]) == pytest.approx(100 * expected.mAP)
    assert {key: value for key, value in found.items() if key != "per_query"} == build().evaluate(*features)


def test_junk_is_never_read():
    query, gallery = features_of(4)
    expected = build().evaluate(query, gallery)
    nothing = np.full((1, 3), np.nan, dtype=np.float32)
    junk = build(query_pids=[-1, *QUERY_PIDS], gallery_pids=[*GALLERY_PIDS, -1])
    assert junk.evaluate(np.concatenate([nothing, query]), np.concatenate([gallery, nothing])) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_tensors_of_any_precision(dtype):
    features = features_of(5, levels=4)
    assert build().evaluate(*(torch.from_numpy(side).to(dtype) for side in features)) == build().evaluate(*features)


def test_errors_name_the_dataset():
    query, gallery = features_of(0)
    with pytest.raises(ValueError, match=r"Tiny cannot be scored: The query pids have shape \[9\], but.* 8 feature"):
        build().evaluate(query[:8], gallery)
    with pytest.raises(ValueError, match="Tiny cannot be scored: Query features have width 3, gallery features 2"):
        build().evaluate(query, gallery[:, :2])
    gallery[1] = np.nan
    with pytest.raises(ValueError, match="Tiny cannot be scored: 1 of 4 gallery features hold NaN .* at position 1"):
        build().evaluate(query, gallery)


def test_single_images_only():
    with pytest.raises(ValueError, match="Tiny cannot be scored: every identity has a single image"):
        build(query_pids=[1, 2], gallery_pids=[3]).evaluate(np.eye(2, dtype=np.float32), np.ones((1, 2), np.float32))


def test_no_gallery_at_all_is_refused():
    with pytest.raises(ValueError, match=r"at least one random gallery, got 0; see TEST\.RANDOM_GALLERIES"):
        RandomGalleryEvaluator("Tiny", [], [], galleries=0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 50), st.integers(0, 9))
def test_a_gallery_holds_every_identity_once(pids, seed, draw):
    chosen = draw_gallery(torch.tensor(pids), seed, draw)
    assert [pids[position] for position in chosen.tolist()] == sorted(set(pids))


def test_every_image_is_drawn_about_as_often():
    pids = torch.tensor([3, 1, 3, 1, 3, 1, 3, 3, 8])
    counts = torch.cat([draw_gallery(pids, 0, draw) for draw in range(900)]).bincount(minlength=len(pids))
    expected = torch.tensor([180, 300, 180, 300, 180, 300, 180, 180, 900])
    assert (counts - expected).abs().max() < 60  # more than four standard deviations


def test_draws_are_the_same_on_every_machine():
    pids = torch.arange(40) % 7
    np.random.seed(0)
    torch.manual_seed(0)
    assert draw_gallery(pids, 3, 2).tolist() == PINNED
    np.random.seed(1)
    torch.manual_seed(1)
    assert draw_gallery(pids, 3, 2).tolist() == PINNED
    assert draw_gallery(pids, 3, 1).tolist() != PINNED
