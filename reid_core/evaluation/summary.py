"""From the ranks of true matches to results: means, each query's own, ranked lists."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.labelled import LabelledFeatures
from reid_core.evaluation.results import EntryKind, PerQueryResults, RankedLists, RankingResults
from reid_core.retrieval.distance import sum_by_halves


class BlockRanks(NamedTuple):
    """Of a block of queries: number of true matches, int64 [R], ranks of the matches, int64 [R, M], and if asked for
    the nearest images: distances float64 [R, K] and row numbers in the labelled gallery, int64 [R, K]."""

    counts: Tensor
    ranks: Tensor
    nearest: tuple[Tensor, Tensor] | None


def ranks_of(before: Tensor) -> Tensor:
    """Ranks of the matches, int64 [R, M]. before: [R, M], numbers of wrong images with exactly 0, 1, ... matches before
    them: a match comes behind the matches nearer than it and the wrong images with no more matches before them."""
    return before.cumsum(dim=1) + torch.arange(1, before.shape[1] + 1, device=before.device)


def check_matches(same_identity: Tensor, matches: Tensor) -> None:
    """Raise ValueError if no query has a true match. Both int64 [Q]: images of a query's identity, matches of these."""
    if bool((matches > 0).any()):
        return
    own_camera = int((same_identity > 0).sum())
    raise ValueError(
        f"None of the {len(matches)} queries has a true match in the gallery, so there is nothing to score: "
        f"{own_camera} have images of their identity there only from their own camera, which the protocol leaves out, "
        f"and {len(matches) - own_camera} have none. Check that identities are numbered alike in query and gallery; "
        "a set taken by a single camera is ranked with camera_rule=False (TEST.CAMERA_RULE False)."
    )


def summarise(
    blocks: list[BlockRanks], queries: LabelledFeatures, total: int, max_rank: int, per_query: bool
) -> RankingResults:
    """Means over the queries with a match. queries: those of the blocks, in order. total: their number with junk."""
    counts, ranks = (torch.cat(parts) for parts in zip(*((b.counts, b.ranks) for b in blocks), strict=True))
    number = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    precision = (number / ranks.double()).masked_fill(number > counts[:, None], 0)
    last = ranks.gather(1, (counts[:, None] - 1).clamp(min=0)).squeeze(1)
    positions, valid = queries.positions.cpu().numpy(), (counts > 0).cpu().numpy()

    def spread(values: Tensor, missing: float) -> np.ndarray:
        column = np.full(total, missing, dtype=np.asarray(missing).dtype)
        column[positions[valid]] = values.cpu().numpy()[valid]
        return column

    results = PerQueryResults(
        average_precision=spread(sum_by_halves(precision) / counts, math.nan),
        inverse_negative_penalty=spread(counts / last.double(), math.nan),
        first_match_rank=spread(ranks[:, 0], 0),
    )
    first = results.first_match_rank[results.first_match_rank > 0]
    return RankingResults(
        mAP=float(np.nanmean(results.average_precision)),
        mINP=float(np.nanmean(results.inverse_negative_penalty)),
        cmc=np.cumsum(np.bincount(first, minlength=max_rank + 1)[1 : max_rank + 1]) / len(first),
        num_queries=total,
        num_valid_queries=len(first),
        per_query=results if per_query else None,
    )


def ranked_lists(
    distances: Tensor, index: Tensor, queries: LabelledFeatures, images: LabelledFeatures, total: int, camera_rule: bool
) -> RankedLists:
    """The lists of all `total` queries. distances float64, index int64 [Q, K]: nearest rows of `images`."""
    same = images.pids[index] == queries.pids[:, None]
    own_camera = (images.camids[index] == queries.camids[:, None]) & camera_rule
    kinds = torch.where(same, torch.where(own_camera, EntryKind.IGNORED, EntryKind.MATCH), EntryKind.WRONG)
    rows, shape = queries.positions.cpu().numpy(), (total, index.shape[1])
    lists = RankedLists(np.full(shape, -1), np.full(shape, np.nan), np.full(shape, EntryKind.IGNORED, dtype=np.uint8))
    for column, values in zip(vars(lists).values(), (images.positions[index], distances, kinds), strict=True):
        column[rows] = values.cpu().numpy()
    return lists
