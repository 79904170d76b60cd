"""The evaluator of CUHK03's first protocol: CMC over random galleries of one image of each identity."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.drawn_galleries import DrawnGalleriesEvaluator, draw_gallery
from reid_core.evaluation.ranking import evaluate
from reid_core.registry import EVALUATOR_REGISTRY


@EVALUATOR_REGISTRY.register()
class SingleShotEvaluator(DrawnGalleriesEvaluator):
    """Scores each query against random galleries of one image of each identity (Li et al., CVPR 2014).

    The gallery of a query holds images of the other cameras only (without the camera rule: of all cameras), so that
    each identity has one image there, drawn at random; the CMC is the mean over the draws. mAP, mINP and whatever
    else is asked for are ReIDEvaluator's, of the whole gallery, as the field's programs report them beside this CMC.
    CUHK03's newer protocol (Zhong et al., CVPR 2017) is the usual one: ReIDEvaluator.

    The arguments are those of DrawnGalleriesEvaluator.
    """

    galleries_key = "TEST.SINGLE_SHOT_GALLERIES"

    def evaluate(self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor) -> dict[str, Any]:
        """ReIDEvaluator's results; "rank1", ... are means over the draws in percent, and "rank1_std", ... their
        standard deviations (0 for a single draw)."""
        scores = super().evaluate(query_features, gallery_features)
        draws = self._draw_curves(query_features, gallery_features)
        for rank in self.cmc_ranks:
            scores[f"rank{rank}"] = 100 * float(draws[:, rank - 1].mean())
        return scores | {f"rank{rank}_std": 100 * float(draws[:, rank - 1].std()) for rank in self.cmc_ranks}

    def _draw_curves(self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor) -> np.ndarray:
        """The CMC of each draw, float64 [galleries, ranks]."""
        queries, images = self.labelled(query_features, gallery_features)
        found, counted = np.zeros((self.galleries, self.max_rank)), 0
        for camera in queries.camids.unique() if self.camera_rule else [None]:
            other = torch.ones_like(images.pids, dtype=torch.bool) if camera is None else images.camids != camera
            positions = other.nonzero().squeeze(1)
            pids = images.pids[positions]
            here = torch.isin(queries.pids, pids)
            asked = queries.keep(here if camera is None else here & (queries.camids == camera))
            if not len(asked.pids):
                continue
            counted += len(asked.pids)
            for draw in range(self.galleries):
                chosen = draw_gallery(pids, self.seed, draw)
                seen = images.features[positions[chosen]]  # of unit length already, if they are to be
                results = evaluate(
                    asked.features, seen, asked.pids, pids[chosen], camera_rule=False, max_rank=self.max_rank
                )
                found[draw] += results.cmc * len(asked.pids)
        return found / counted
