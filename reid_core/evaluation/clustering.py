"""How well clusters agree with identities."""

import numpy as np
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import pair_confusion_matrix


def clustering_scores(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Agreement of clusters with identities, in percent: {"NMI", "ARI", "pairwise_F"}.

    labels: int [N], the identities. clusters: int [N]; -1 marks an image in no cluster, which counts as a cluster of
    its own: leaving out what is difficult does not raise the scores.

    NMI: mutual information over the arithmetic mean of both entropies. ARI: Rand index adjusted for chance (Hubert &
    Arabie 1985). pairwise_F: harmonic mean of precision and recall of "the two are one identity" over all pairs.
    Raises ValueError if the arrays differ in length or are empty.
    """
    labels, clusters = np.asarray(labels), np.array(clusters)
    if labels.shape != clusters.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(f"labels and clusters must be of one length, got shapes {labels.shape} and {clusters.shape}.")
    alone = clusters < 0
    clusters[alone] = clusters.max() + 1 + np.arange(alone.sum())
    (_, wrong), (missed, right) = pair_confusion_matrix(labels, clusters)
    return {
        "NMI": 100 * float(normalized_mutual_info_score(labels, clusters)),
        "ARI": 100 * float(adjusted_rand_score(labels, clusters)),
        "pairwise_F": 100 * 2 * float(right) / max(float(2 * right + wrong + missed), 1.0),
    }
