"""The evaluator of VehicleID's protocol: means over random galleries of one image of each identity."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.drawn_galleries import DrawnGalleriesEvaluator, draw_gallery
from reid_core.evaluation.ranking import evaluate
from reid_core.registry import EVALUATOR_REGISTRY
from reid_core.structures import ReIDImage


@EVALUATOR_REGISTRY.register()
class RandomGalleryEvaluator(DrawnGalleriesEvaluator):
    """Scores all test images, query and gallery together, several times (Liu et al., CVPR 2016).

    In each draw one random image of each identity is the gallery and all others are queries; no image is left out of
    a ranking, whatever its camera. An identity with a single image stays in the gallery and has no query. Identity -1
    is never read.

    The arguments are those of DrawnGalleriesEvaluator.
    """

    galleries_key = "TEST.RANDOM_GALLERIES"

    def __init__(self, name: str, query: Sequence[ReIDImage], gallery: Sequence[ReIDImage], **options: Any):
        super().__init__(name, query, gallery, **options | {"camera_rule": False})

    def evaluate(self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor) -> dict[str, Any]:
        """Features [Q, D] and [G, D] -> {"mAP", "mINP", "rank1", ...}, means over the draws in percent, then "mAP_std",
        "mINP_std", "rank1_std", ..., the standard deviations of the draws (0 for a single one), as floats.

        Whatever else is asked for ("per_query", "TPR@FPR=...", "camera_pairs") is as ReIDEvaluator has it: of the
        dataset's own query and gallery, without the camera rule. Raises ValueError, naming the dataset, for features
        that do not fit its records or cannot be scored.
        """
        with self.naming_errors():
            draws = self._score_draws(query_features, gallery_features)
        columns = {key: [draw[key] for draw in draws] for key in draws[0]}
        scores: dict[str, Any] = {key: float(np.mean(column)) for key, column in columns.items()}
        scores |= {f"{key}_std": float(np.std(column)) for key, column in columns.items()}
        if self.per_query or self.false_positive_rates or self.camera_pairs:
            scores = super().evaluate(query_features, gallery_features) | scores
        return scores

    def _score_draws(
        self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor
    ) -> list[dict[str, float]]:
        """Percentages of each draw."""
        sides = self.labelled(query_features, gallery_features)
        features, pids = (torch.cat([getattr(side, column) for side in sides]) for column in ("features", "pids"))
        scores = []
        for draw in range(self.galleries):
            chosen = draw_gallery(pids, self.seed, draw)
            others = torch.ones_like(pids, dtype=torch.bool)
            others[chosen] = False
            if not others.any():
                raise ValueError("every identity has a single image, so that a gallery of one of each leaves no query.")
            results = evaluate(
                features[others],  # of unit length already, if they are to be: then both metrics rank alike
                features[chosen],
                pids[others],
                pids[chosen],
                camera_rule=False,
                max_rank=self.max_rank,
            )
            scores.append(results.percentages(self.cmc_ranks))
        return scores
