"""Claim: k-reciprocal re-ranking needs no matrix over all images, and is faster without one.

Re-ranks the same features twice, each side in a process of its own that loads them from files: by
`reid_core.retrieval`, and by the published algorithm on dense float32 matrices with a full argsort. Prints time and
peak memory of both (what comes on top of the imports and the loaded features), their ratios, how far the results are
apart, and between sizes the exponent of growth; the last line is JSON. Linux only, for the memory.

    python benchmarks/reranking.py                                       # four sizes up to 8000 images
    python benchmarks/reranking.py --sizes 19281                         # Market-1501
    python benchmarks/reranking.py --sizes 93820 --query-share 0.1243 --dense-up-to 0      # MSMT17
"""

import numpy as np
from common import compare_sides, dense_distances, dense_jaccard, sides_parser

from reid_core.retrieval import rerank, rerank_blocks

TOP = 10  # nearest images that are kept of a query where the whole matrix is not asked for


def densely(features: np.ndarray, queries: int, k1: int, k2: int) -> np.ndarray:
    distances = dense_distances(features)
    distances /= distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1)
    jaccard = dense_jaccard(distances, order, k1 + 1, round(k1 / 2) + 1, k2, queries)
    return 0.7 * jaccard[:, queries:] + np.float32(0.3) * distances[:queries, queries:]


def sparsely(features: np.ndarray, queries: int, k1: int, k2: int) -> np.ndarray:
    return rerank(features[:queries], features[queries:], k1, k2)


def to_lists(features: np.ndarray, queries: int, k1: int, k2: int) -> np.ndarray:
    """As `sparsely`, but each query's nearest images only: the matrix is never held."""
    blocks = rerank_blocks(features[:queries], features[queries:], k1, k2)
    # Copies: a view would keep the whole block alive.
    return np.concatenate([np.argpartition(block, TOP, axis=1)[:, :TOP].copy() for _, block in blocks])


def largest_difference(dense: np.ndarray, sparse: np.ndarray) -> float:
    return float(np.abs(dense - sparse).max())


def main() -> None:
    parser = sides_parser(__doc__.splitlines()[0], sizes=[1000, 2000, 4000, 8000], dense_up_to=20000)
    parser.add_argument("--query-share", type=float, default=0.1747, help="of the images; the rest is the gallery")
    parser.add_argument("--k", type=int, nargs=2, default=(20, 6), metavar=("K1", "K2"))
    options = parser.parse_args()

    def queries(features: np.ndarray) -> int:
        return round(options.query_share * len(features))

    sides = {
        "dense": lambda features: densely(features, queries(features), *options.k),
        "sparse": lambda features: sparsely(features, queries(features), *options.k),
        "lists": lambda features: to_lists(features, queries(features), *options.k),
    }
    compare_sides(options, sides, largest_difference, alone="lists")


if __name__ == "__main__":
    main()
