"""mAP, CMC and mINP by the field's protocol, exactly, without the distance matrix and without sorting it.

The rank of a true match is one plus the number of kept gallery images before it: those closer, and at equal
distance those earlier in the gallery. So nothing need be sorted but a query's own true matches: the gallery passes
by in blocks, and of each wrong image only the number of true matches before it is counted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.camera_pairs import score_camera_pairs
from reid_core.evaluation.counting import BYTES_PER_PAIR, count_matches_before, sorted_matches
from reid_core.evaluation.labelled import IdentityIndex, LabelledFeatures, label_sides, require_cameras
from reid_core.evaluation.nearest import NearestLists
from reid_core.evaluation.results import RankingResults
from reid_core.evaluation.roc import RocCounter
from reid_core.evaluation.summary import BlockRanks, check_matches, ranked_lists, ranks_of, summarise
from reid_core.retrieval.distance import SquaredDistances, to_metric

_MAX_PAIRS = 2**30  # of a block: their numbers fit an int32
_MAX_ROWS = 2048  # queries in a block: for each block of queries the gallery is read again


@torch.no_grad()
def evaluate(
    query: np.ndarray | Tensor,
    gallery: np.ndarray | Tensor,
    query_pids: np.ndarray | Tensor,
    gallery_pids: np.ndarray | Tensor,
    query_camids: np.ndarray | Tensor | None = None,
    gallery_camids: np.ndarray | Tensor | None = None,
    *,
    metric: str = "euclidean",
    normalize: bool = False,
    camera_rule: bool = True,
    max_rank: int = 50,
    per_query: bool = False,
    top_k: int = 0,
    false_positive_rates: Sequence[float] = (),
    camera_pairs: bool = False,
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
    camera_rule: False to leave no image out, whatever its camera; only then can camera numbers be missing (None).
    per_query: keep each query's results. top_k: keep each query's list of that many nearest gallery images, with
    those of its identity and camera in it, marked. false_positive_rates: keep the verification curve, with the true
    positive rates at these (see the module `roc`). camera_pairs: rank each query camera's images against each gallery
    camera's alone, too (as much work again, and a copy of one camera's features).
    device: CPU or CUDA (float64 is needed); None: where `query` is. block_bytes: working memory beside the features,
    whatever the numbers of images (about; at least one row).

    Raises ValueError for shapes that do not fit, NaN, infinite or (to be normalised) all-zero features, missing camera
    numbers, and where no query has a true match.
    """
    check_options(max_rank, block_bytes, top_k, false_positive_rates)
    if camera_rule or camera_pairs:
        require_cameras(query_camids, gallery_camids)
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
    options = _Options(metric, camera_rule, max_rank, per_query, top_k, tuple(false_positive_rates), block_bytes)
    results = _score(queries, images, len(query_pids), options)
    if camera_pairs:
        plain = options._replace(per_query=False, top_k=0, false_positive_rates=())

        def rank(asked: LabelledFeatures, seen: LabelledFeatures) -> RankingResults:
            return _score(asked, seen, len(query_pids), plain)

        results = replace(results, camera_pairs=score_camera_pairs(queries, images, camera_rule, rank))
    return results


class _Options(NamedTuple):
    """Of `evaluate`."""

    metric: str
    camera_rule: bool
    max_rank: int
    per_query: bool
    top_k: int
    false_positive_rates: tuple[float, ...]
    block_bytes: int


def _score(queries: LabelledFeatures, images: LabelledFeatures, total: int, options: _Options) -> RankingResults:
    """total: number of queries with junk."""
    same_identity, matches = IdentityIndex(queries, images, options.camera_rule).count()
    check_matches(same_identity, matches)
    if not (options.top_k or options.false_positive_rates):
        queries = queries.keep(matches > 0)
    blocks, roc = _rank_in_blocks(queries, images, int(same_identity.max()), options)
    results = summarise(blocks, queries, total, options.max_rank, options.per_query)
    if options.top_k:
        distances, index = (torch.cat(parts) for parts in zip(*(block.nearest for block in blocks), strict=True))
        distances = to_metric(distances, options.metric)
        lists = ranked_lists(distances, index, queries, images, total, options.camera_rule)
        results = replace(results, ranked_lists=lists)
    return replace(results, roc=roc.curve(options.metric) if roc else None)


def check_options(max_rank: int, block_bytes: int, top_k: int, false_positive_rates: Sequence[float] = ()) -> None:
    """Raise ValueError for options of `evaluate` that are out of range."""
    if min(max_rank, block_bytes) < 1 or top_k < 0:
        raise ValueError(
            f"max_rank and block_bytes must be positive, top_k not negative; got max_rank={max_rank}, "
            f"block_bytes={block_bytes}, top_k={top_k}."
        )
    if not all(0 <= rate <= 1 for rate in false_positive_rates):
        raise ValueError(f"False positive rates are shares from 0 to 1, got {list(false_positive_rates)}.")


def _rank_in_blocks(
    queries: LabelledFeatures, images: LabelledFeatures, most_matches: int, options: _Options
) -> tuple[list[BlockRanks], RocCounter | None]:
    """Rank all queries. The blocks' sizes come from `block_bytes` and the largest number of images of an identity."""
    source = SquaredDistances(queries.features, images.features, reuse_blocks=True)
    index = IdentityIndex(queries, images, options.camera_rule)
    roc = RocCounter(source, index, options.false_positive_rates) if options.false_positive_rates else None
    matches_width, top_k = 1 << most_matches.bit_length(), min(options.top_k, len(images.pids))
    sizes = _block_sizes(options.block_bytes, images.features.shape[1], max(matches_width, top_k))
    blocks = []
    for rows in _slices(0, len(queries.pids), sizes.rows):
        same = index.pairs(rows)
        matches = sorted_matches(same, partial(_exact, source, rows.start), len(queries.pids[rows]), matches_width)
        nearest = NearestLists(source, rows, top_k) if top_k else None
        before = torch.zeros_like(matches.positions)
        for columns in _slices(0, len(images.pids), sizes.columns):
            block, error = source.block(rows, columns), source.row_error(rows, columns)
            if nearest:
                nearest.update(block, error, columns)
            inside = (same.gallery >= columns.start) & (same.gallery < columns.stop)
            block[same.query[inside], same.gallery[inside] - columns.start] = torch.inf  # not in their own way
            if roc:
                roc.update(block, error, rows, columns, options.block_bytes // 2)
            for part in _slices(0, len(block), sizes.counted_rows):
                there = slice(rows.start + part.start, rows.start + part.stop)
                before[part] += count_matches_before(source, block[part], error[part], matches.of(part), there, columns)
        lists = (nearest.distances, nearest.indices) if nearest else None
        blocks.append(BlockRanks(matches.counts, ranks_of(before), lists))
    return blocks, roc


def _exact(source: SquaredDistances, start: int, query: Tensor, gallery: Tensor) -> Tensor:
    """Distances of pairs whose queries are counted from `start`."""
    return source.exact(query + start, gallery)


class _BlockSizes(NamedTuple):
    """Queries and gallery images of a block, and the number of its queries that are counted at a time."""

    rows: int
    columns: int
    counted_rows: int


def _block_sizes(block_bytes: int, width: int, table_width: int) -> _BlockSizes:
    """Half of the memory for the block and the features that it is made of, half for counting.

    Large blocks make fast products; what is counted at a time should stay in the processor's cache.
    """
    pairs = min(max(1, block_bytes // 2 // BYTES_PER_PAIR), _MAX_PAIRS)
    rows = max(1, min(_MAX_ROWS, pairs // table_width, math.isqrt(block_bytes // 8), block_bytes // 16 // width))
    columns = max(1, min(block_bytes // 2 // (5 * rows + 4 * width), _MAX_PAIRS // rows, pairs))
    return _BlockSizes(rows, columns, max(1, min(rows, pairs // columns)))


def _slices(start: int, stop: int, length: int) -> Iterator[slice]:
    for first in range(start, stop, length):
        yield slice(first, min(first + length, stop))
