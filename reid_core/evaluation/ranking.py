"""mAP, CMC and mINP by the field's protocol, exactly, without the distance matrix and without sorting it.

The rank of a true match is one plus the number of kept gallery images before it: those closer, and at equal
distance those earlier in the gallery. So nothing need be sorted but a query's own true matches: the gallery passes
by in blocks, and of each wrong image only the number of true matches before it is counted.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.distance import SquaredDistances, sum_by_halves, to_metric
from reid_core.evaluation.labelled import IdentityIndex, LabelledFeatures, SameIdentity, label_sides
from reid_core.evaluation.nearest import NearestLists
from reid_core.evaluation.results import EntryKind, PerQueryResults, RankedLists, RankingResults

_BYTES_PER_PAIR = 96  # of a block: its distance, and in the worst case the indices that counting it takes
_MAX_PAIRS = 2**30  # their numbers fit an int32
_MAX_ROWS = 512  # queries in a block: enough for a fast matrix product
_ROUNDING = 2.0**-23  # room for the rounding of a float64 to a float32


@torch.no_grad()
def evaluate(
    query: np.ndarray | Tensor,
    gallery: np.ndarray | Tensor,
    query_pids: np.ndarray | Tensor,
    gallery_pids: np.ndarray | Tensor,
    query_camids: np.ndarray | Tensor,
    gallery_camids: np.ndarray | Tensor,
    *,
    metric: str = "euclidean",
    normalize: bool = False,
    max_rank: int = 50,
    per_query: bool = False,
    top_k: int = 0,
    device: torch.device | str | None = None,
    block_bytes: int = 64 * 2**20,
) -> RankingResults:
    """Rank the gallery for each query and return mAP, CMC and mINP.

    Of each query's ranking, gallery images with its identity and its camera are left out; identity -1 (junk) is
    never read; other identities without a query (distractors) stay. Equal distances keep the gallery's order.
    A query without a true match is not counted. AP is the mean over true matches of (matches so far / rank), the
    inverse negative penalty (number of matches / rank of the last match), the CMC at r the share of queries whose
    first match has rank r or better.

    query [Q, D], gallery [G, D]: floating point, any precision; the ranking is that of the exact distances between
    their float32 values (after scaling rows to unit length with `normalize` or metric "cosine"), and so the same
    for every block size, number of threads and device. *_pids, *_camids: whole numbers [Q] or [G].
    per_query: keep each query's results. top_k: keep each query's list of that many nearest gallery images, with
    those of its identity and camera in it, marked. device: CPU or CUDA (float64 is needed); None: where `query` is.
    block_bytes: working memory beside the features, whatever the numbers of images (about; at least one row).

    Raises ValueError for shapes that do not fit, NaN, infinite or (to be normalised) all-zero features, and where
    no query has a true match.
    """
    if min(max_rank, block_bytes) < 1 or top_k < 0:
        raise ValueError(
            f"max_rank and block_bytes must be positive, top_k not negative; got max_rank={max_rank}, "
            f"block_bytes={block_bytes}, top_k={top_k}."
        )
    queries, images = label_sides(
        query,
        gallery,
        query_pids,
        gallery_pids,
        query_camids,
        gallery_camids,
        metric=metric,
        normalize=normalize,
        device=device,
    )
    total = len(query_pids)
    same_identity, matches = IdentityIndex(queries, images).count()
    _check_matches(same_identity, matches)
    if not top_k:
        queries = queries.keep(matches > 0)
    blocks = _rank_in_blocks(queries, images, int(same_identity.max()), min(top_k, len(images.pids)), block_bytes)
    return _summarise(blocks, queries, images, total, max_rank, per_query, metric)


class _Block(NamedTuple):
    """Of a block of queries: number of true matches [R], ranks of the matches [R, M] and nearest images, if asked."""

    counts: Tensor
    ranks: Tensor
    nearest: NearestLists | None


class _Matches(NamedTuple):
    """True matches of a block of queries, nearest first, gallery order at equal distance.

    distances: float64 [R, M], infinite behind a query's last; M is a power of two larger than any count.
    positions: int64 [R, M]. counts: int64 [R].
    """

    distances: Tensor
    positions: Tensor
    counts: Tensor


def _rank_in_blocks(
    queries: LabelledFeatures, images: LabelledFeatures, most_matches: int, top_k: int, block_bytes: int
) -> list[_Block]:
    """Rank all queries. The blocks' sizes come from `block_bytes` and the largest number of images of an identity."""
    source, index = SquaredDistances(queries.features, images.features), IdentityIndex(queries, images)
    pairs = min(max(1, block_bytes // _BYTES_PER_PAIR), _MAX_PAIRS)
    matches_width = 1 << most_matches.bit_length()
    height = max(1, min(_MAX_ROWS, math.isqrt(pairs), pairs // max(matches_width, top_k)))
    width = max(1, pairs // height)
    blocks = []
    for start in range(0, len(queries.pids), height):
        rows = slice(start, min(start + height, len(queries.pids)))
        same = index.pairs(rows)
        matches = _sorted_matches(source, same, rows, matches_width)
        nearest = NearestLists(source, rows, top_k) if top_k else None
        before = torch.zeros_like(matches.positions)
        for left in range(0, len(images.pids), width):
            columns = slice(left, min(left + width, len(images.pids)))
            block, error = source.block(rows, columns)
            if nearest:
                nearest.update(block, error, columns)
            inside = (same.gallery >= columns.start) & (same.gallery < columns.stop)
            block[same.query[inside], same.gallery[inside] - left] = torch.inf  # matches are not in their own way
            before += _count_matches_before(source, block, error, matches, rows, columns)
        # A match comes behind the matches nearer than it and the wrong images with no more matches before them.
        ranks = before.cumsum(dim=1) + torch.arange(1, matches_width + 1, device=before.device)
        blocks.append(_Block(matches.counts, ranks, nearest))
    return blocks


def _sorted_matches(source: SquaredDistances, same: SameIdentity, rows: slice, width: int) -> _Matches:
    query, gallery = same.query[~same.same_camera], same.gallery[~same.same_camera]
    counts = query.bincount(minlength=rows.stop - rows.start)
    slot = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
    distances = torch.full((len(counts), width), torch.inf, dtype=torch.float64, device=query.device)
    positions = torch.zeros_like(distances, dtype=torch.int64)
    distances[query, slot], positions[query, slot] = source.exact(query + rows.start, gallery), gallery
    distances, order = distances.sort(dim=1, stable=True)  # in a row the gallery's order stood before
    return _Matches(distances, positions.gather(1, order), counts)


def _count_matches_before(
    source: SquaredDistances, block: Tensor, error: Tensor, matches: _Matches, rows: slice, columns: slice
) -> Tensor:
    """int64 [R, M]: of each query, the number of images in the block with exactly 0, 1, ... M - 1 matches before them.

    Images behind all matches are not counted: they change no rank. An image whose distance in the block is within
    the error of a match's is compared with the matches by its exact distance, then by its place in the gallery.
    """
    exact = matches.distances * source.unit
    low = (exact * (1 - _ROUNDING) - error[:, None]).float()
    high = (exact * (1 + _ROUNDING) + error[:, None]).float()
    last = high.gather(1, (matches.counts[:, None] - 1).clamp(min=0)).masked_fill(matches.counts[:, None] == 0, -1)
    pair = (block <= last).flatten().nonzero().squeeze(1).int()
    row = pair.div(block.shape[1], rounding_mode="floor")
    distance = block.flatten().index_select(0, pair)
    place = _bisect(high, row, distance)
    doubtful = (low.flatten().index_select(0, place) <= distance).nonzero().squeeze(1)
    row, position = row[doubtful], pair[doubtful] % block.shape[1] + columns.start
    distance = source.exact(row + rows.start, position)
    place[doubtful] = _bisect(matches.distances, row, distance, matches.positions, position)
    return place.bincount(minlength=high.numel()).view(high.shape)


def _bisect(
    table: Tensor, row: Tensor, value: Tensor, tie_table: Tensor | None = None, tie_value: Tensor | None = None
) -> Tensor:
    """For each i the place of value[i] in table[row[i]]: the row's start in the flat table plus the number of entries
    less than value[i], or equal with an entry in tie_table less than tie_value[i] (no tie_table: not counted).

    table [R, W]: ascending rows, W a power of two, the last entry infinite. row: int32 [N]. Returns int32 [N].
    """
    entries, place, step = table.flatten(), row * table.shape[1], table.shape[1] // 2
    while step:
        probe = place + (step - 1)
        entry = entries.index_select(0, probe)
        less = entry < value
        if tie_table is not None:
            less |= (entry == value) & (tie_table.flatten().index_select(0, probe) < tie_value)
        place += less * step
        step //= 2
    return place


def _check_matches(same_identity: Tensor, matches: Tensor) -> None:
    if bool((matches > 0).any()):
        return
    own_camera = int((same_identity > 0).sum())
    raise ValueError(
        f"None of the {len(matches)} queries has a true match in the gallery, so there is nothing to score: "
        f"{own_camera} have images of their identity there only from their own camera, which the protocol leaves out, "
        f"and {len(matches) - own_camera} have none. Check that identities are numbered alike in query and gallery; "
        "a set taken by a single camera needs camera numbers that differ between query and gallery."
    )


def _summarise(
    blocks: list[_Block],
    queries: LabelledFeatures,
    images: LabelledFeatures,
    total: int,
    max_rank: int,
    per_query: bool,
    metric: str,
) -> RankingResults:
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
        ranked_lists=_ranked_lists(blocks, queries, images, total, metric) if blocks[0].nearest else None,
    )


def _ranked_lists(
    blocks: list[_Block], queries: LabelledFeatures, images: LabelledFeatures, total: int, metric: str
) -> RankedLists:
    index = torch.cat([block.nearest.indices for block in blocks])
    distances = to_metric(torch.cat([block.nearest.distances for block in blocks]), metric)
    same = images.pids[index] == queries.pids[:, None]
    own_camera = images.camids[index] == queries.camids[:, None]
    kinds = torch.where(same, torch.where(own_camera, EntryKind.IGNORED, EntryKind.MATCH), EntryKind.WRONG)
    rows, shape = queries.positions.cpu().numpy(), (total, index.shape[1])
    lists = RankedLists(np.full(shape, -1), np.full(shape, np.nan), np.full(shape, EntryKind.IGNORED, dtype=np.uint8))
    for column, values in zip(vars(lists).values(), (images.positions[index], distances, kinds), strict=True):
        column[rows] = values.cpu().numpy()
    return lists
