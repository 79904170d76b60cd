"""Results of each pair of cameras are those of ranking that pair's images alone, one at a time."""

import numpy as np
import pytest

from reid_core.evaluation import evaluate
from tests.evaluation import plain
from tests.evaluation.test_ranking import random_set


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("camera_rule", [True, False])
def test_equals_ranking_each_pair_alone(seed, camera_rule):
    arrays = random_set(seed, queries=30, gallery=80, identities=8, cameras=4, levels=3 * (seed % 2))
    arrays[4][arrays[4] == 3] = 7  # no gallery image is of this camera, no query of camera 3
    found = evaluate(*arrays, camera_rule=camera_rule, camera_pairs=True, block_bytes=5000).camera_pairs
    assert found.query_cameras.tolist() == [0, 1, 2, 7] and found.gallery_cameras.tolist() == [0, 1, 2, 3]
    for row, query_camera in enumerate(found.query_cameras):
        for column, gallery_camera in enumerate(found.gallery_cameras):
            kept = [arrays[4] == query_camera, arrays[5] == gallery_camera] * 3
            some = [values[keep] for values, keep in zip(arrays, kept, strict=True)]
            if camera_rule and query_camera == gallery_camera:
                assert np.isnan(found.mAP[row, column]) and found.num_valid_queries[row, column] == 0
                continue
            expected = plain.score(*some, camera_rule=camera_rule)
            assert found.mAP[row, column] == pytest.approx(expected["mAP"])
            assert found.rank1[row, column] == pytest.approx(expected["cmc"][0])
            assert found.num_valid_queries[row, column] == expected["valid"]


def test_the_rest_of_the_results_stays():
    arrays = random_set(1)
    found, expected = evaluate(*arrays, camera_pairs=True, top_k=3, per_query=True), evaluate(*arrays)
    assert found.mAP == expected.mAP and expected.camera_pairs is None
    assert found.ranked_lists is not None and found.per_query is not None


def test_table():
    found = evaluate(np.eye(2), np.eye(2), [0, 1], [0, 1], [5, 6], [6, 5], camera_pairs=True)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.camera_pairs.table().splitlines()]
    assert rows[0] == ["mAP / rank-1, query camera", "5", "6"]
    assert rows[2:] == [["5", "-", "100.0 / 100.0"], ["6", "100.0 / 100.0", "-"]]
