"""What is done to features or distances between the model and the ranking: query expansion and re-ranking."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from reid_core import retrieval  # not the functions: what re-ranking imports is only loaded where it is asked for
from reid_core.evaluation.labelled import LabelledFeatures


@dataclass(frozen=True)
class Reranking:
    """k-reciprocal re-ranking (Zhong et al., CVPR 2017); see `rerank_blocks`. Raises ValueError out of range."""

    k1: int = 50
    k2: int = 15
    lambda_value: float = 0.3

    def __post_init__(self):
        if min(self.k1, self.k2) < 1 or not 0 <= self.lambda_value <= 1:
            raise ValueError(
                "TEST.RERANK_K1 and TEST.RERANK_K2 must be positive and TEST.RERANK_LAMBDA in [0, 1], got "
                f"{self.k1}, {self.k2} and {self.lambda_value}."
            )

    def distances(
        self, queries: LabelledFeatures, images: LabelledFeatures, unit_length: bool
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Re-ranked distances, float32 [rows, G], of one block of queries after another.

        unit_length: scale the features to it first.
        """
        options = {"k1": self.k1, "k2": self.k2, "lambda_value": self.lambda_value, "normalize": unit_length}
        return retrieval.rerank_blocks(queries.features, images.features, **options)


@dataclass(frozen=True)
class QueryExpansion:
    """Alpha query expansion (Radenovic et al., TPAMI 2018); see `expand_queries`. Raises ValueError out of range."""

    k: int = 5
    alpha: float = 3.0
    rounds: int = 1
    augment_gallery: bool = True

    def __post_init__(self):
        if min(self.k, self.rounds) < 1 or self.alpha < 0:
            raise ValueError(
                "TEST.QUERY_EXPANSION_K and TEST.QUERY_EXPANSION_ROUNDS must be positive, TEST.QUERY_EXPANSION_ALPHA "
                f"not negative; got {self.k}, {self.rounds} and {self.alpha}."
            )

    def features(self, queries: LabelledFeatures, images: LabelledFeatures) -> tuple[Tensor, Tensor]:
        """Expanded features of both sides, float32, as they are averaged: not of unit length."""
        options = {"k": self.k, "alpha": self.alpha, "rounds": self.rounds, "augment_gallery": self.augment_gallery}
        return retrieval.expand_queries(queries.features, images.features, **options)
