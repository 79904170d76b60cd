"""k-reciprocal re-ranking of a gallery (Zhong et al., CVPR 2017) without a matrix over all images."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from reid_core.retrieval.distance import AddedDistances, SquaredDistances, prepare_features
from reid_core.retrieval.k_reciprocal import encode, jaccard_distance, overlap_blocks
from reid_core.retrieval.neighbours import check_widths, search

_BYTES_PER_PAIR = 8  # of a block of distances: the distance, and room for those that it is made of
_BYTES_PER_VALUE = 8  # of the features multiplied at a time: a shifted copy


def rerank(
    query: np.ndarray | Tensor,
    gallery: np.ndarray | Tensor,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    *,
    normalize: bool = False,
    added_distances: np.ndarray | Tensor | None = None,
    device: torch.device | str | None = None,
    block_bytes: int = 64 * 2**20,
) -> np.ndarray:
    """Distances after k-reciprocal re-ranking, float32 [Q, G]: (1 - lambda) * Jaccard + lambda * original.

    Arguments, memory and what is raised are those of `rerank_blocks`; the result takes 4 bytes * Q * G more.
    """
    _check(k1, k2, lambda_value)
    source = _source(query, gallery, normalize, added_distances, device)
    distances = np.zeros((len(query), len(gallery)), dtype=np.float32)
    # The search for neighbours computes the original distances anyway.
    between = distances if lambda_value else None
    codes, columns, farthest = _codes(source, len(query), k1, k2, block_bytes, between)
    height = max(1, block_bytes // (_BYTES_PER_PAIR * len(gallery)))
    for top in range(0, len(query), height):
        rows = slice(top, min(top + height, len(query)))
        block = distances[rows]
        np.maximum(block, 0, out=block)
        block *= (lambda_value / _largest(source, farthest, rows))[:, None]
        _add_jaccard(block, codes[rows], columns, lambda_value, block_bytes)
    return distances


@torch.no_grad()
def rerank_blocks(
    query: np.ndarray | Tensor,
    gallery: np.ndarray | Tensor,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    *,
    normalize: bool = False,
    added_distances: np.ndarray | Tensor | None = None,
    device: torch.device | str | None = None,
    block_bytes: int = 64 * 2**20,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Re-ranked distances for one block of queries after another, for sets whose [Q, G] does not fit: an iterator of
    row numbers and float32 [rows, G].

    Original distances are squared Euclidean ones, each query's divided by its largest to any image of both sides.
    query [Q, D], gallery [G, D]: floating point. normalize: scale rows to unit length first. k1: neighbours, beside
    the image itself, whose lists must be reciprocal; k2: nearest (itself included) over which codes are averaged, 1
    for none; both are cut to the number of images. Equal distances go by number, queries first; an image is before
    its copies. lambda_value: share of the original distance, in [0, 1].
    added_distances: float [Q + G, Q + G], symmetric, queries first: added to the squared distances before all else
    (e.g. distances between parts of the images). device: for the matrix products; None: where `query` is.
    block_bytes: working memory (about; at least what one row takes). Beside it are held, with N = Q + G, a float32
    copy of the features, the neighbour lists (24 bytes * N * (max(k1, k2) + 9)), the sparse codes and, of the
    gallery, their transpose (16 bytes an entry; an image has some 60 at k1 20, k2 6, up to 500 at 50, 15).

    Raises ValueError for numbers out of range, shapes that do not fit, NaN or infinite features and, with
    normalize, rows of zeros.
    """
    _check(k1, k2, lambda_value)
    source = _source(query, gallery, normalize, added_distances, device)
    codes, columns, farthest = _codes(source, len(query), k1, k2, block_bytes)
    return _blocks(source, codes, columns, farthest, lambda_value, block_bytes)


def _check(k1: int, k2: int, lambda_value: float) -> None:
    if min(k1, k2) < 1 or not 0 <= lambda_value <= 1:
        raise ValueError(
            f"k1 and k2 must be positive and lambda_value in [0, 1], got k1={k1}, k2={k2}, lambda_value={lambda_value}."
        )


def _source(
    query: np.ndarray | Tensor,
    gallery: np.ndarray | Tensor,
    normalize: bool,
    added_distances: np.ndarray | Tensor | None,
    device: torch.device | str | None,
) -> SquaredDistances:
    """Distances among queries and gallery as one set, queries first."""
    metric = "cosine" if normalize else "euclidean"
    query = prepare_features(query, "query", metric, device)
    gallery = prepare_features(gallery, "gallery", metric, query.device)
    check_widths(query, gallery)
    everything = torch.cat([query, gallery])
    if added_distances is None:
        return SquaredDistances(everything, everything, reuse_blocks=True)
    return AddedDistances(everything, added_distances)


@torch.no_grad()
def _codes(
    source: SquaredDistances, split: int, k1: int, k2: int, block_bytes: int, between: np.ndarray | None = None
) -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray]:
    """Codes of the first `split` images, those of the others transposed, and the largest distance of each image."""
    half, plain = round(k1 / 2) + 1, not isinstance(source, AddedDistances)
    neighbours = search(
        source,
        max(k1 + 1, half, k2),
        block_bytes=block_bytes,
        among_themselves=True,
        itself_first=plain,
        split=split,
        between=between,
    )
    farthest = neighbours.farthest.cpu().numpy().astype(np.float64)
    codes = encode(source, neighbours, k1 + 1, half, k2, farthest, block_bytes=block_bytes)
    return codes[:split], codes[split:].T.tocsr(), farthest


@torch.no_grad()
def _blocks(
    source: SquaredDistances,
    codes: sparse.csr_matrix,
    columns: sparse.csr_matrix,
    farthest: np.ndarray,
    lambda_value: float,
    block_bytes: int,
) -> Iterator[tuple[slice, np.ndarray]]:
    split, images = codes.shape[0], columns.shape[1]
    height = max(1, block_bytes // (_BYTES_PER_PAIR * images))
    for top in range(0, split, height):
        rows = slice(top, min(top + height, split))
        block = np.zeros((rows.stop - top, images), dtype=np.float32)
        if lambda_value:
            _original_distances(source, rows, split, block_bytes, out=block)
            block *= (lambda_value / _largest(source, farthest, rows))[:, None]
        _add_jaccard(block, codes[rows], columns, lambda_value, block_bytes)
        yield rows, block


def _add_jaccard(
    block: np.ndarray, codes: sparse.csr_matrix, columns: sparse.csr_matrix, lambda_value: float, block_bytes: int
) -> None:
    """Add (1 - lambda) * Jaccard distance to float32 [rows, G]."""
    for part, overlap in overlap_blocks(codes, columns, block_bytes=block_bytes):
        block[part] += jaccard_distance(overlap) * np.float32(1 - lambda_value)


def _largest(source: SquaredDistances, farthest: np.ndarray, rows: slice) -> np.ndarray:
    """What divides the distances of each row, in units: float32 [rows]."""
    return (np.where(farthest[rows] > 0, farthest[rows], 1) * source.unit).astype(np.float32)


def _original_distances(
    source: SquaredDistances, rows: slice, split: int, block_bytes: int, out: np.ndarray
) -> None:
    """Fill float32 [rows, G] with the squared distances to the gallery, in units."""
    width = max(1, block_bytes // (_BYTES_PER_VALUE * source.query.shape[1]))
    for left in range(split, len(source.gallery), width):
        columns = slice(left, min(left + width, len(source.gallery)))
        out[:, left - split : columns.stop - split] = source.block(rows, columns).clamp_(min=0).cpu().numpy()
