"""The evaluator of one dataset: image features in, metrics in percent out."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.given_distances import evaluate_distances
from reid_core.evaluation.labelled import LabelledFeatures, label_sides
from reid_core.evaluation.ranking import evaluate
from reid_core.evaluation.refinement import QueryExpansion, Reranking
from reid_core.evaluation.results import RankingResults
from reid_core.registry import EVALUATOR_REGISTRY
from reid_core.retrieval.distance import METRICS
from reid_core.structures import ReIDImage
from reid_core.utils.logging import get_logger


@EVALUATOR_REGISTRY.register()
class ReIDEvaluator:
    """Scores the features of a dataset's query and gallery images by the field's protocol (see `ranking.evaluate`).

    name: the dataset's, for the log and for errors. query, gallery: its records, in the order of the features.
    cmc_ranks: ranks reported, each at least 1. per_query: report each query's results too. camera_rule,
    false_positive_rates, camera_pairs: as in `ranking.evaluate`; the camera pairs' table goes to the log.
    expansion, reranking: score the features so refined too; with both also re-ranked after the expansion.
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
        expansion: QueryExpansion | None = None,
        reranking: Reranking | None = None,
    ):
        if metric not in METRICS:
            raise ValueError(f"TEST.METRIC must be one of {', '.join(METRICS)}, got {metric!r}.")
        if any(rank < 1 for rank in cmc_ranks):
            raise ValueError(f"CMC ranks count from 1, got {list(cmc_ranks)}.")
        if not all(0 <= rate <= 1 for rate in false_positive_rates):
            raise ValueError(
                f"False positive rates are shares from 0 to 1, got {list(false_positive_rates)}; see TEST.FPR."
            )
        self.name, self.cmc_ranks, self.per_query = name, tuple(cmc_ranks), per_query
        self.metric, self.normalize, self.camera_rule = metric, normalize, camera_rule
        self.false_positive_rates, self.camera_pairs = tuple(false_positive_rates), camera_pairs
        self.expansion, self.reranking = expansion, reranking
        sides = _labels(query), _labels(gallery)
        self._columns = tuple(side[column] for column in (0, 1) for side in sides)

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
            "expansion": _expansion(test) if test.QUERY_EXPANSION else None,
            "reranking": _reranking(test) if test.RERANK else None,
        }

    def evaluate(self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor) -> dict[str, Any]:
        """Features [Q, D] and [G, D] -> {"mAP", "mINP", "rank1", ..., "TPR@FPR=1e-3", ...}: floats in percent.

        With `per_query` also "per_query": {"AP", "INP"} float64 [Q] in percent, NaN without a true match, and
        "first_match_rank" int64 [Q], 0 without one. With `camera_pairs` also "camera_pairs": a dict of the columns of
        CameraPairs, mAP and rank1 in percent. What expansion and re-ranking make of the floats has "expanded/",
        "reranked/" or "expanded+reranked/" before its name (re-ranked distances have no "TPR@FPR").
        Raises ValueError, naming the dataset, for features that do not fit its records or cannot be scored.
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
        with self.naming_errors():
            for variant, refined in self._refined(query_features, gallery_features):
                scores |= {f"{variant}/{key}": value for key, value in refined.percentages(self.cmc_ranks).items()}
        return scores

    def rank(
        self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor, top_k: int = 0
    ) -> RankingResults:
        """The same as full results, with each query's `top_k` nearest images if asked for (for a report)."""
        with self.naming_errors():
            return evaluate(
                query_features,
                gallery_features,
                *self._columns,
                metric=self.metric,
                normalize=self.normalize,
                camera_rule=self.camera_rule,
                false_positive_rates=self.false_positive_rates,
                camera_pairs=self.camera_pairs,
                max_rank=self.max_rank,
                per_query=self.per_query or top_k > 0,
                top_k=top_k,
            )

    @contextlib.contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Put the dataset's name before the text of a ValueError."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{self.name} cannot be scored: {error}") from error

    @property
    def max_rank(self) -> int:
        """The length of the CMC."""
        return max(50, *self.cmc_ranks)

    def labelled(
        self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor
    ) -> tuple[LabelledFeatures, LabelledFeatures]:
        """The features with their labels, junk left out, of unit length if they are to be; raises as `label_sides`."""
        return label_sides(
            query_features, gallery_features, *self._columns, metric=self.metric, normalize=self.normalize
        )

    def _refined(
        self, query_features: np.ndarray | Tensor, gallery_features: np.ndarray | Tensor
    ) -> Iterator[tuple[str, RankingResults]]:
        """Results of the refined features by name."""
        if not (self.expansion or self.reranking):
            return
        queries, images = self.labelled(query_features, gallery_features)
        labels = queries.pids, images.pids, queries.camids, images.camids
        options = {"camera_rule": self.camera_rule, "max_rank": self.max_rank}
        names = []
        if self.expansion:
            names.append("expanded")
            expanded = self.expansion.features(queries, images)
            queries, images = queries._replace(features=expanded[0]), images._replace(features=expanded[1])
            yield (
                names[0],
                evaluate(
                    *expanded,
                    *labels,
                    metric=self.metric,
                    normalize=self.normalize,
                    false_positive_rates=self.false_positive_rates,
                    **options,
                ),
            )
        if self.reranking:
            unit_length = self.normalize or self.metric == "cosine"
            distances = self.reranking.distances(queries, images, unit_length)
            yield "+".join([*names, "reranked"]), evaluate_distances(distances, *labels, **options)


def _expansion(test: Any) -> QueryExpansion:
    return QueryExpansion(
        test.QUERY_EXPANSION_K, test.QUERY_EXPANSION_ALPHA, test.QUERY_EXPANSION_ROUNDS, test.QUERY_EXPANSION_GALLERY
    )


def _reranking(test: Any) -> Reranking:
    return Reranking(test.RERANK_K1, test.RERANK_K2, test.RERANK_LAMBDA)


def _labels(records: Sequence[ReIDImage]) -> Tensor:
    """Identities and cameras, int64 [2, N]."""
    return torch.tensor([(record.pid, record.camid) for record in records], dtype=torch.int64).reshape(-1, 2).T
