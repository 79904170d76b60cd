"""The evaluator of VehicleID's protocol: means over random galleries of one image of each identity."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.labelled import label_sides
from reid_core.evaluation.ranking import evaluate
from reid_core.evaluation.reid_evaluator import ReIDEvaluator
from reid_core.registry import EVALUATOR_REGISTRY
from reid_core.structures import ReIDImage


@EVALUATOR_REGISTRY.register()
class RandomGalleryEvaluator(ReIDEvaluator):
    """Scores all test images, query and gallery together, several times (Liu et al., CVPR 2016).

    In each draw one random image of each identity is the gallery and all others are queries; no image is left out of
    a ranking, whatever its camera. An identity with a single image stays in the gallery and has no query. Identity -1
    is never read.

    galleries: how many are drawn, at least 1. seed: starts the draws; with the same records in the same order they
    are the same on every machine and in every process. The rest as for ReIDEvaluator.
    """

    def __init__(
        self,
        name: str,
        query: Sequence[ReIDImage],
        gallery: Sequence[ReIDImage],
        *,
        galleries: int = 10,
        seed: int = 1,
        **options: Any,
    ):
        super().__init__(name, query, gallery, **options | {"camera_rule": False})
        if galleries < 1:
            raise ValueError(f"There must be at least one random gallery, got {galleries}; see TEST.RANDOM_GALLERIES.")
        self.galleries, self.seed = galleries, seed

    @classmethod
    def from_config(cls, cfg: Any, dataset: Any) -> dict:
        """dataset: anything with `name`, and `query` and `gallery` as sequences of ReIDImage."""
        draws = {"galleries": cfg.TEST.RANDOM_GALLERIES, "seed": cfg.TEST.GALLERY_SEED}
        return super().from_config(cfg, dataset) | draws

    def evaluate(self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor) -> dict[str, Any]:
        """Features [Q, D] and [G, D] -> {"mAP", "mINP", "rank1", ...}, means over the draws in percent, then "mAP_std",
        "mINP_std", "rank1_std", ..., the standard deviations of the draws (0 for a single one), as floats.

        Whatever else is asked for ("per_query", "TPR@FPR=...", "camera_pairs") is as ReIDEvaluator has it: of the
        dataset's own query and gallery, without the camera rule. Raises ValueError, naming the dataset, for features
        that do not fit its records or cannot be scored.
        """
        try:
            draws = self._score_draws(query_features, gallery_features)
        except ValueError as error:
            raise ValueError(f"{self.name} cannot be scored: {error}") from error
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
        sides = label_sides(
            query_features,
            gallery_features,
            self._query[0],
            self._gallery[0],
            self._query[1],
            self._gallery[1],
            metric=self.metric,
            normalize=self.normalize,
        )
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
                max_rank=max(50, *self.cmc_ranks),
            )
            scores.append(results.percentages(self.cmc_ranks))
        return scores


def draw_gallery(pids: Tensor, seed: int, draw: int) -> Tensor:
    """Positions of one random image of each identity, int64 [identities], in the order of the identities' numbers.

    pids: int64 [N]. seed, draw: each pair is a random stream of its own.
    """
    order = pids.argsort(stable=True)
    counts = pids.unique(return_counts=True)[1]  # by rising identity
    sequence = np.random.SeedSequence((seed % 2**64, draw))  # a seed may be negative
    chosen = np.random.Generator(np.random.PCG64(sequence)).integers(counts.cpu().numpy())
    first = counts.cumsum(0) - counts
    return order[first + torch.from_numpy(chosen).to(pids.device)]
