"""Claim: clustering by k-reciprocal Jaccard distances needs no matrix over all images, and is faster without one.

One pass of pseudo labels (neighbours, Jaccard distances, DBSCAN) over the same features twice, each side in a process
of its own that loads them from files: by `reid_core.retrieval`, and by the published algorithm on dense float32
matrices with a full argsort. Prints time and peak memory of both (what comes on top of the imports and the loaded
features), their ratios, the share of images with another label, and between sizes the exponent of growth; the last line
is JSON. Linux only, for the memory.

    python benchmarks/clustering.py                                      # up to Market-1501's 12936 training images
    python benchmarks/clustering.py --sizes 12936 32621 100000           # MSMT17's and more, without the dense side
"""

import numpy as np
from common import compare_sides, dense_distances, dense_jaccard, sides_parser
from sklearn.cluster import DBSCAN

from reid_core.retrieval import pseudo_labels

MIN_SAMPLES = 4


def densely(features: np.ndarray, eps: float, k1: int, k2: int) -> np.ndarray:
    distances = dense_distances(features)
    order = np.argsort(distances, axis=1)
    jaccard = dense_jaccard(distances, order, k1, round(k1 / 2) + 1, k2, len(features)).clip(0)
    return DBSCAN(eps=eps, min_samples=MIN_SAMPLES, metric="precomputed").fit(jaccard).labels_


def other_labels(dense: np.ndarray, sparse: np.ndarray) -> float:
    """Share of images with another label."""
    return float((dense != sparse).mean())


def main() -> None:
    parser = sides_parser(__doc__.splitlines()[0], sizes=[3234, 6468, 12936], dense_up_to=12936)
    parser.add_argument("--eps", type=float, default=0.5)
    parser.add_argument("--k", type=int, nargs=2, default=(30, 6), metavar=("K1", "K2"))
    options = parser.parse_args()
    sides = {
        "dense": lambda features: densely(features, options.eps, *options.k),
        "sparse": lambda features: pseudo_labels(features, options.eps, MIN_SAMPLES, *options.k),
    }
    compare_sides(options, sides, other_labels)


if __name__ == "__main__":
    main()
