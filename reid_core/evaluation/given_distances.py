"""The ranking metrics of distances that are given, such as re-ranked ones, as their rows come: never all at once."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from reid_core.evaluation.counting import BYTES_PER_PAIR, count_exactly, sorted_matches
from reid_core.evaluation.labelled import IdentityIndex, LabelledFeatures, SameIdentity, label_images, require_cameras
from reid_core.evaluation.ranking import check_options
from reid_core.evaluation.results import RankingResults
from reid_core.evaluation.summary import BlockRanks, check_matches, ranked_lists, ranks_of, summarise

_SHOWN = 5  # positions named in an error


@torch.no_grad()
def evaluate_distances(
    blocks: Iterable[tuple[slice, np.ndarray | Tensor]],
    query_pids: np.ndarray | Tensor,
    gallery_pids: np.ndarray | Tensor,
    query_camids: np.ndarray | Tensor | None = None,
    gallery_camids: np.ndarray | Tensor | None = None,
    *,
    camera_rule: bool = True,
    max_rank: int = 50,
    per_query: bool = False,
    top_k: int = 0,
    device: torch.device | str | None = None,
    block_bytes: int = 64 * 2**20,
) -> RankingResults:
    """Rank the gallery for each query by given distances; the protocol and the results are those of `evaluate`.

    blocks: row numbers and distances [rows, G] of any floating-point precision, in the order of the queries, all of
    them once (`rerank_blocks` yields them; a matrix is the one block `(slice(0, Q), matrix)`). The smaller the nearer;
    they may be negative. Equal distances keep the gallery's order. Rows and columns of identity -1 are never read.
    The blocks are not changed. top_k: the lists hold the distances as they are given.
    device: where blocks are counted; None: the CPU. block_bytes: working memory beside a block (about; at least one
    row). The other arguments: see `ranking.evaluate`. There is no verification curve: it needs the distances of all
    true matches before the first block.

    Raises ValueError for blocks that are not all rows in order or not [rows, G], NaN or infinite distances, labels that
    do not fit, missing camera numbers, and where no query has a true match.
    """
    check_options(max_rank, block_bytes, top_k)
    if camera_rule:
        require_cameras(query_camids, gallery_camids)
    queries = label_images(query_pids, query_camids, "query", device)
    images = label_images(gallery_pids, gallery_camids, "gallery", device)
    index = IdentityIndex(queries, images, camera_rule)
    same_identity, matches = index.count()
    check_matches(same_identity, matches)
    width, top_k = 1 << int(same_identity.max()).bit_length(), min(top_k, len(images.pids))
    height = max(1, min(block_bytes // BYTES_PER_PAIR, 2**30) // len(images.pids))
    found = []
    for rows, distances in _parts(blocks, queries, images, (len(query_pids), len(gallery_pids)), height):
        found.append(_rank(distances, index.pairs(rows), width, top_k))
    results = summarise(found, queries, len(query_pids), max_rank, per_query)
    if not top_k:
        return results
    nearest = [torch.cat(parts) for parts in zip(*(block.nearest for block in found), strict=True)]
    return replace(results, ranked_lists=ranked_lists(*nearest, queries, images, len(query_pids), camera_rule))


def _parts(
    blocks: Iterable[tuple[slice, np.ndarray | Tensor]],
    queries: LabelledFeatures,
    images: LabelledFeatures,
    shape: tuple[int, int],
    height: int,
) -> Iterator[tuple[slice, Tensor]]:
    """Checked copies of up to `height` rows without junk, float32 or float64, and their numbers in `queries`."""
    end = 0
    for rows, block in blocks:
        if rows.start != end or tuple(block.shape) != (rows.stop - end, shape[1]):
            raise ValueError(
                f"Blocks of distances are all rows in order, [rows, {shape[1]}] each; rows {rows.start} to {rows.stop} "
                f"of shape {list(block.shape)} came behind row {end}."
            )
        end = rows.stop
        first, last = (int(torch.searchsorted(queries.positions, place)) for place in (rows.start, rows.stop))
        for top in range(first, last, height):
            some = slice(top, min(top + height, last))
            positions = queries.positions[some]
            part = _rows(block, positions - rows.start).to(positions.device)
            part = part[:, images.positions] if len(images.positions) < shape[1] else part
            part = part if part.dtype == torch.float64 else part.float()
            _check_finite(part, positions)
            yield some, part
    if end != shape[0]:
        raise ValueError(f"Blocks of distances came for {end} of {shape[0]} queries.")


def _rows(block: np.ndarray | Tensor, chosen: Tensor) -> Tensor:
    """A copy of some rows."""
    if isinstance(block, Tensor):
        part = block.detach()[chosen.to(block.device)]
    else:
        part = torch.from_numpy(np.asarray(block)[chosen.cpu().numpy()])
    if not part.is_floating_point():
        raise ValueError(f"Distances must be floating-point numbers, got {part.dtype}.")
    return part


def _rank(distances: Tensor, same: SameIdentity, width: int, top_k: int) -> BlockRanks:
    """distances [R, G]: changed."""
    nearest = None
    if top_k:
        ordered, order = distances.sort(dim=1, stable=True)
        nearest = ordered[:, :top_k].double(), order[:, :top_k].clone()
    matches = sorted_matches(same, lambda query, image: distances[query, image].double(), len(distances), width)
    distances[same.query, same.gallery] = torch.inf  # not in their own way
    return BlockRanks(matches.counts, ranks_of(count_exactly(distances, matches)), nearest)


def _check_finite(distances: Tensor, positions: Tensor) -> None:
    if all(bool(bound.isfinite()) for bound in distances.aminmax()):
        return
    bad = positions[~distances.isfinite().all(dim=1)].tolist()
    where = ", ".join(map(str, bad[:_SHOWN])) + (", ..." if len(bad) > _SHOWN else "")
    raise ValueError(
        f"The distances of {len(bad)} queries hold NaN or infinite values; first at position {where}. Look for them in "
        "the features that they were made of."
    )
