"""What the protocols over random galleries share: the draws, and what such protocols cannot be combined with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.reid_evaluator import ReIDEvaluator
from reid_core.structures import ReIDImage


class DrawnGalleriesEvaluator(ReIDEvaluator):
    """Base of the evaluators that average over random galleries.

    galleries: how many are drawn, at least 1. seed: starts the draws; with the same records in the same order they
    are the same on every machine and in every process. The rest as for ReIDEvaluator, but neither re-ranking nor query
    expansion: they need one gallery.
    """

    galleries_key = ""
    """The key of TEST that says how many galleries are drawn."""

    def __init__(
        self,
        name: str,
        query: Sequence[ReIDImage],
        gallery: Sequence[ReIDImage],
        *,
        galleries: int,
        seed: int = 0,
        **options: Any,
    ):
        super().__init__(name, query, gallery, **options)
        if galleries < 1:
            raise ValueError(f"There must be at least one random gallery, got {galleries}; see {self.galleries_key}.")
        if self.reranking or self.expansion:
            raise ValueError(
                f"{name} is scored over random galleries ({type(self).__name__}), which can be neither re-ranked nor "
                "expanded by: set TEST.RERANK and TEST.QUERY_EXPANSION False, or TEST.EVALUATOR ReIDEvaluator."
            )
        self.galleries, self.seed = galleries, seed

    @classmethod
    def from_config(cls, cfg: Any, dataset: Any) -> dict:
        """dataset: anything with `name`, and `query` and `gallery` as sequences of ReIDImage."""
        galleries = cfg.TEST[cls.galleries_key.removeprefix("TEST.")]
        return super().from_config(cfg, dataset) | {"galleries": galleries, "seed": cfg.TEST.GALLERY_SEED}


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
