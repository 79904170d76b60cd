"""The evaluator of one dataset: image features in, metrics in percent out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.ranking import evaluate
from reid_core.evaluation.results import RankingResults
from reid_core.registry import EVALUATOR_REGISTRY
from reid_core.structures import ReIDImage
from reid_core.utils.logging import get_logger


@EVALUATOR_REGISTRY.register()
class ReIDEvaluator:
    """Scores the features of a dataset's query and gallery images by the field's protocol (see `ranking.evaluate`).

    name: the dataset's, for the log and for errors. query, gallery: its records, in the order of the features.
    cmc_ranks: ranks reported, each at least 1. per_query: report each query's results too. camera_rule,
    false_positive_rates, camera_pairs: as in `ranking.evaluate`; the camera pairs' table goes to the log.
    """

    def __init__(
        self,
        name: str,
        query: Sequence[ReIDImage],
        gallery: Sequence[ReIDImage],
        metric: str = "euclidean",
        normalize: bool = True,
        cmc_ranks: Sequence[int] = (1, 5, 10),
        per_query: bool = False,
        camera_rule: bool = True,
        false_positive_rates: Sequence[float] = (),
        camera_pairs: bool = False,
    ):
        if any(rank < 1 for rank in cmc_ranks):
            raise ValueError(f"CMC ranks count from 1, got {list(cmc_ranks)}.")
        if not all(0 <= rate <= 1 for rate in false_positive_rates):
            raise ValueError(
                f"False positive rates are shares from 0 to 1, got {list(false_positive_rates)}; see TEST.FPR."
            )
        self.name, self.cmc_ranks, self.per_query = name, tuple(cmc_ranks), per_query
        self.metric, self.normalize, self.camera_rule = metric, normalize, camera_rule
        self.false_positive_rates, self.camera_pairs = tuple(false_positive_rates), camera_pairs
        self._query, self._gallery = _labels(query), _labels(gallery)

    @classmethod
    def from_config(cls, cfg: Any, dataset: Any) -> dict:
        """dataset: anything with `name`, and `query` and `gallery` as sequences of ReIDImage."""
        test = cfg.TEST
        return {
            "name": dataset.name,
            "query": dataset.query,
            "gallery": dataset.gallery,
            "metric": test.METRIC,
            "normalize": test.NORMALIZE_FEATURES,
            "cmc_ranks": test.CMC_RANKS,
            "per_query": test.PER_QUERY,
            "camera_rule": test.CAMERA_RULE,
            "false_positive_rates": test.FPR if test.ROC else (),
            "camera_pairs": test.CAMERA_PAIRS,
        }

    def evaluate(self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor) -> dict[str, Any]:
        """Features [Q, D] and [G, D] -> {"mAP", "mINP", "rank1", ..., "TPR@FPR=1e-3", ...}: floats in percent.

        With `per_query` also "per_query": {"AP", "INP"} float64 [Q] in percent, NaN without a true match, and
        "first_match_rank" int64 [Q], 0 without one. With `camera_pairs` also "camera_pairs": a dict of the columns of
        CameraPairs, mAP and rank1 in percent. Raises ValueError, naming the dataset, for features that do not fit its
        records or cannot be scored.
        """
        results = self.rank(query_features, gallery_features)
        scores: dict[str, Any] = results.percentages(self.cmc_ranks)
        if results.per_query is not None:
            scores["per_query"] = {
                "AP": 100 * results.per_query.average_precision,
                "INP": 100 * results.per_query.inverse_negative_penalty,
                "first_match_rank": results.per_query.first_match_rank,
            }
        if results.camera_pairs is not None:
            columns = vars(results.camera_pairs)
            scores["camera_pairs"] = columns | {key: 100 * columns[key] for key in ("mAP", "rank1")}
            get_logger().info(f"{self.name}, by pair of cameras:\n{results.camera_pairs.table()}")
        uncounted = results.num_queries - results.num_valid_queries
        if uncounted:
            get_logger().info(
                f"{self.name}: {uncounted} of {results.num_queries} queries have no true match and are not counted."
            )
        return scores

    def rank(
        self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor, top_k: int = 0
    ) -> RankingResults:
        """The same as full results, with each query's `top_k` nearest images if asked for (for a report)."""
        try:
            return evaluate(
                query_features,
                gallery_features,
                self._query[0],
                self._gallery[0],
                self._query[1],
                self._gallery[1],
                metric=self.metric,
                normalize=self.normalize,
                camera_rule=self.camera_rule,
                false_positive_rates=self.false_positive_rates,
                camera_pairs=self.camera_pairs,
                max_rank=max(50, *self.cmc_ranks),
                per_query=self.per_query or top_k > 0,
                top_k=top_k,
            )
        except ValueError as error:
            raise ValueError(f"{self.name} cannot be scored: {error}") from error


def _labels(records: Sequence[ReIDImage]) -> Tensor:
    """Identities and cameras, int64 [2, N]."""
    return torch.tensor([(record.pid, record.camid) for record in records], dtype=torch.int64).reshape(-1, 2).T
