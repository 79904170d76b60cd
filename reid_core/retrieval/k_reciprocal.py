"""k-reciprocal encoding of images and the Jaccard distances of the codes (Zhong et al., CVPR 2017), all sparse.

An image's code has an entry for each image of its expanded k-reciprocal neighbourhood. Two images whose codes share
no entry have Jaccard distance 1; all others are found through the codes' columns, so that nothing of the size
N x N is ever held. Memory of the codes: 8 bytes an entry, of which an image has about k1 (k2 = 1) to a few times
k1 (k2 as published).
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse

from reid_core.retrieval.distance import SquaredDistances
from reid_core.retrieval.neighbours import Neighbours

_BYTES_PER_TERM = 24  # of a sum of minima, while it is made: the two values, their minimum and the target's number
_BYTES_PER_SUM = 16  # the sum and what is made of it
_CACHE_BYTES = 4 * 2**20


def encode(
    source: SquaredDistances,
    neighbours: Neighbours,
    length: int,
    half_length: int,
    k2: int,
    scale: np.ndarray | None = None,
    *,
    block_bytes: int,
) -> sparse.csr_matrix:
    """Codes of all images: float32 CSR [N, N], indices sorted, rows of sum 1.

    An image's code has the weight exp(-d^2 / scale) for each image of its neighbourhood, normalised to sum 1, and
    is then averaged over the image's k2 nearest (query expansion).

    neighbours: lists of each image's nearest, itself first, at least max(length, half_length, k2) long where there
    are as many images. length: entries of the lists whose reciprocal pairs make the neighbourhood; half_length: of
    those that expand it. scale: float [N], divides an image's squared distances; None: 1.
    block_bytes: working memory (about) beside lists and codes.
    """
    indices, distances = neighbours.indices.cpu().numpy(), neighbours.distances.cpu().numpy()
    hoods = expanded_neighbourhoods(indices, length, half_length, block_bytes=block_bytes)
    squared = _squared_distances(source, hoods, _listed(indices, distances))
    rows = np.repeat(np.arange(len(indices)), np.diff(hoods.indptr))
    if scale is not None:
        squared /= np.where(scale > 0, scale, 1)[rows]
    weights = np.exp(-squared)
    sums = np.bincount(rows, weights, minlength=len(indices))  # of at least 1: an image is in its own neighbourhood
    hoods.data = (weights / sums[rows]).astype(np.float32)
    k2 = min(k2, indices.shape[1])
    if k2 == 1:
        return hoods
    codes = _listed(indices[:, :k2], np.float32(1)) @ hoods
    codes.data /= k2
    codes.sort_indices()
    return codes


def reciprocal_neighbours(indices: np.ndarray) -> sparse.csr_matrix:
    """Pairs of images that are in each other's list, int32 ones in CSR [N, N]. indices: int64 [N, length]."""
    listed = _listed(indices, np.int32(1))
    return listed.multiply(listed.T.tocsr()).tocsr()


def expanded_neighbourhoods(
    indices: np.ndarray, length: int, half_length: int, *, block_bytes: int
) -> sparse.csr_matrix:
    """The k-reciprocal neighbourhoods R*(i, k1) of Zhong et al., section 3.1; CSR [N, N], sorted, without values.

    R(i, k1) are the reciprocal neighbours in the lists of `length`. To these come those of a member, R(j, k1 / 2)
    in the lists of `half_length`, where more than two thirds of them are in R(i, k1).
    """
    hoods = reciprocal_neighbours(indices[:, :length])
    halves = reciprocal_neighbours(indices[:, :half_length])
    sizes, back = np.diff(halves.indptr), halves.T.tocsr()
    height = max(1, block_bytes // (16 * length * half_length))
    parts = []
    for top in range(0, len(indices), height):
        own = hoods[top : top + height]
        shared = (own @ back).multiply(own).tocsr()  # [i, j]: images in both R(i, k1) and R(j, k1 / 2), for j in R(i)
        shared.data = (3 * shared.data > 2 * sizes[shared.indices]).astype(np.int32)
        shared.eliminate_zeros()
        parts.append((own + shared @ halves).tocsr())
    expanded = sparse.vstack(parts, format="csr")
    expanded.sort_indices()
    return expanded


def overlap_blocks(
    codes: sparse.csr_matrix, columns: sparse.csr_matrix, *, block_bytes: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Overlaps sum_c min(V_ic, V_jc) of codes V [R, C] with others: row numbers and float64 [rows, T], in turn.

    columns: the other codes transposed, CSR [C, T]. A block takes about `block_bytes` at most, but at least what one
    row takes; small blocks, which stay in the processor's cache, are the fastest.
    """
    block_bytes, width = min(block_bytes, _CACHE_BYTES), columns.shape[1]
    terms = np.concatenate([[0], np.cumsum(np.diff(columns.indptr)[codes.indices], dtype=np.int64)])[codes.indptr]
    cost = terms * _BYTES_PER_TERM + np.arange(len(terms)) * (_BYTES_PER_SUM * width)
    top = 0
    while top < codes.shape[0]:
        bottom = max(top + 1, int(np.searchsorted(cost, cost[top] + block_bytes, side="right")) - 1)
        entries = slice(codes.indptr[top], codes.indptr[bottom])
        found = columns[codes.indices[entries]]  # [entries, T]: of each entry, the targets that have it too
        values = np.repeat(codes.data[entries], np.diff(found.indptr))
        smaller = np.minimum(values, found.data, dtype=np.float64)
        pointers = found.indptr[codes.indptr[top : bottom + 1] - codes.indptr[top]]
        # One row of terms an image, a target in it as often as they share an entry: toarray adds them up.
        yield slice(top, bottom), sparse.csr_matrix((smaller, found.indices, pointers), (bottom - top, width)).toarray()
        top = bottom


def jaccard_distance(overlap: np.ndarray) -> np.ndarray:
    """1 - sum of minima / sum of maxima, of codes that each sum to 1, from the sums of minima; float32 in [0, 1]."""
    return (1 - overlap / (2 - overlap)).clip(0, 1).astype(np.float32)


def _listed(indices: np.ndarray, values: np.ndarray | np.number) -> sparse.csr_matrix:
    """CSR [N, N] with the values [N, length] (or one value) at each image's list; sorted."""
    rows, length = indices.shape
    data = np.broadcast_to(values, indices.shape).ravel()
    table = sparse.csr_matrix((data, indices.ravel(), np.arange(rows + 1) * length), shape=(rows, rows), copy=True)
    table.sort_indices()
    return table


def _squared_distances(source: SquaredDistances, hoods: sparse.csr_matrix, listed: sparse.csr_matrix) -> np.ndarray:
    """Squared distances float64 of the pairs in `hoods`: looked up in the lists of either image, else computed."""
    count = hoods.shape[0]
    row, column = np.repeat(np.arange(count), np.diff(hoods.indptr)), hoods.indices.astype(np.int64)
    known = np.repeat(np.arange(count), np.diff(listed.indptr)) * count + listed.indices
    squared = np.full(len(row), np.nan)
    for key in (row * count + column, column * count + row):
        open_pairs = np.flatnonzero(np.isnan(squared))
        place = np.searchsorted(known, key[open_pairs]).clip(max=len(known) - 1)
        found = known[place] == key[open_pairs]
        squared[open_pairs[found]] = listed.data[place[found]]
    open_pairs = np.flatnonzero(np.isnan(squared))
    device = source.query.device
    pairs = (torch.from_numpy(side[open_pairs]).to(device) for side in (row, column))
    squared[open_pairs] = source.exact(*pairs).cpu().numpy()
    return squared
