"""The single-shot protocol: CMC over random galleries of one image an identity, the rest as usual."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reid_core.config import get_cfg
from reid_core.evaluation import SingleShotEvaluator
from reid_core.evaluation.drawn_galleries import draw_gallery
from reid_core.registry import EVALUATOR_REGISTRY
from reid_core.structures import ReIDImage
from tests.evaluation import plain
from tests.evaluation.test_ranking import random_set


def build(arrays, *overrides):
    cfg = get_cfg()
    cfg.merge_from_list(["TEST.NORMALIZE_FEATURES", "False", *overrides])
    query, gallery = (
        [ReIDImage(f"{side}{n}.jpg", int(p), int(c)) for n, (p, c) in enumerate(zip(*columns, strict=True))]
        for side, columns in (("q", arrays[2::2]), ("g", arrays[3::2]))
    )
    dataset = SimpleNamespace(name="Tiny", query=query, gallery=gallery)
    return EVALUATOR_REGISTRY.build("SingleShotEvaluator", cfg, dataset=dataset)


def plain_draw(arrays, seed, draw, rank, camera_rule=True):
    """Share of the queries found within `rank`, one query and one image at a time, in percent."""
    query, gallery, query_pids, gallery_pids, query_camids, gallery_camids = arrays
    hits = []
    for row, pid, camid in zip(query, query_pids, query_camids, strict=True):
        allowed = [
            i for i in range(len(gallery)) if gallery_pids[i] != -1 and not (camera_rule and gallery_camids[i] == camid)
        ]
        if pid == -1 or pid not in gallery_pids[allowed]:
            continue
        drawn = draw_gallery(torch.from_numpy(gallery_pids[allowed]), seed, draw).tolist()
        chosen = [allowed[place] for place in drawn]
        order = sorted(range(len(chosen)), key=lambda i: (plain.squared_distance(row, gallery[chosen[i]]), i))
        hits.append(pid in [gallery_pids[chosen[i]] for i in order[:rank]])
    return 100 * sum(hits) / len(hits)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("camera_rule", [True, False])
def test_equals_a_plain_loop_over_the_draws(seed, camera_rule):
    arrays = random_set(seed, queries=20, levels=3 * (seed == 1))
    words = ["TEST.SINGLE_SHOT_GALLERIES", "3", "TEST.GALLERY_SEED", str(seed), "TEST.CMC_RANKS", "[2]"]
    found = build(arrays, *words, "TEST.CAMERA_RULE", str(camera_rule)).evaluate(*arrays[:2])
    draws = [plain_draw(arrays, seed, draw, 2, camera_rule) for draw in range(3)]
    assert list(found) == ["mAP", "mINP", "rank2", "rank2_std"]
    assert found["rank2"] == pytest.approx(np.mean(draws))
    assert found["rank2_std"] == pytest.approx(np.std(draws), abs=1e-9)
    assert found["mAP"] == pytest.approx(100 * plain.score(*arrays, camera_rule=camera_rule)["mAP"])


def test_a_hundred_draws_unless_told_otherwise():
    arrays = random_set(1)
    assert build(arrays).galleries == 100
    assert build(arrays, "TEST.SINGLE_SHOT_GALLERIES", "1").evaluate(*arrays[:2])["rank1_std"] == 0
    with pytest.raises(ValueError, match=r"at least one random gallery, got 0; see TEST\.SINGLE_SHOT_GALLERIES"):
        SingleShotEvaluator("Tiny", [], [], galleries=0)


def test_junk_is_never_read_and_other_results_are_kept():
    arrays = random_set(2)
    words = "TEST.SINGLE_SHOT_GALLERIES", "2", "TEST.PER_QUERY", "True", "TEST.ROC", "True"
    expected = build(arrays, *words).evaluate(*arrays[:2])
    for side in (0, 1):
        arrays[side][arrays[2 + side] == -1] = np.nan
    found = build(arrays, *words).evaluate(*arrays[:2])
    assert found["rank1"] == expected["rank1"] and "per_query" in found and "TPR@FPR=1e-3" in found
