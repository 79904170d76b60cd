"""The ranking between two cameras at a time: which views a model does not yet see as one identity."""

from collections.abc import Callable

import numpy as np

from reid_core.evaluation.labelled import IdentityIndex, LabelledFeatures
from reid_core.evaluation.results import CameraPairs, RankingResults


def score_camera_pairs(
    queries: LabelledFeatures,
    images: LabelledFeatures,
    camera_rule: bool,
    rank: Callable[[LabelledFeatures, LabelledFeatures], RankingResults],
) -> CameraPairs:
    """Of each query camera and gallery camera: `rank` of that camera's queries against that camera's images alone.

    A pair of cameras in which no query has a true match is NaN: with the camera rule, each camera with itself.
    """
    query_cameras, gallery_cameras = queries.camids.unique(), images.camids.unique()
    shape = len(query_cameras), len(gallery_cameras)
    mean_precision, rank1, counted = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    for column, gallery_camera in enumerate(gallery_cameras):
        seen = images.keep(images.camids == gallery_camera)
        for row, query_camera in enumerate(query_cameras):
            asked = queries.keep(queries.camids == query_camera)
            if not bool((IdentityIndex(asked, seen, camera_rule).count()[1] > 0).any()):
                continue
            found = rank(asked, seen)
            mean_precision[row, column], rank1[row, column] = found.mAP, found.cmc[0]
            counted[row, column] = found.num_valid_queries
    return CameraPairs(query_cameras.cpu().numpy(), gallery_cameras.cpu().numpy(), mean_precision, rank1, counted)
