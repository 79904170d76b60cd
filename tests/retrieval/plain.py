"""The published algorithms as plainly as possible: lists, sets and loops, one pair of images at a time, float64."""

import math

import numpy as np


def squared_distances(query, gallery):
    """Sums in which equal rows tie exactly: NumPy adds the same number of values in the same order for each pair."""
    return [[float(((np.float64(a) - np.float64(b)) ** 2).sum()) for b in gallery] for a in query]


def nearest(row, k, itself=None):
    """The k smallest by value, then index; `itself` before all."""
    return sorted(range(len(row)), key=lambda j: (j != itself, row[j], j))[:k]


def unit(features):
    return np.stack([np.float64(row) / math.sqrt(sum(float(x) ** 2 for x in row)) for row in features])


def neighbourhoods(order, length, half_length):
    def reciprocal(i, k):
        return {j for j in order[i][:k] if i in order[j][:k]}

    result = []
    for i in range(len(order)):
        own = reciprocal(i, length)
        expanded = set(own)
        for j in own:
            other = reciprocal(j, half_length)
            if 3 * len(other & own) > 2 * len(other):
                expanded |= other
        result.append(expanded)
    return result


def jaccard(distances, length, half_length, k2, available=None):
    """Dense Jaccard distances from dense (scaled) ones, each image the first in its own list."""
    count = len(distances)
    order = [nearest(row, count, i) for i, row in enumerate(distances)]
    codes = np.zeros((count, count))
    for i, hood in enumerate(neighbourhoods(order, length, half_length)):
        for j in hood:
            codes[i, j] = math.exp(-distances[i][j])
        codes[i] /= codes[i].sum()
    k2 = min(k2, count, available or count)
    codes = np.stack([sum(codes[j] for j in order[i][:k2]) / k2 for i in range(count)])
    result = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            result[i, j] = 1 - np.minimum(codes[i], codes[j]).sum() / np.maximum(codes[i], codes[j]).sum()
    return result


def rerank(query, gallery, k1, k2, lambda_value):
    everything = np.concatenate([query, gallery])
    distances = np.array(squared_distances(everything, everything))
    farthest = distances.max(axis=1, keepdims=True)
    distances = distances / np.where(farthest > 0, farthest, 1)
    mixed = (1 - lambda_value) * jaccard(distances, k1 + 1, round(k1 / 2) + 1, k2) + lambda_value * distances
    return mixed[: len(query), len(query) :]


def cluster_distances(features, k1, k2):
    rows = unit(features).astype(np.float32)
    return jaccard(squared_distances(rows, rows), k1, min(k1, round(k1 / 2) + 1), k2, available=k1)


def expand(features, k, alpha):
    rows = unit(features)
    cosines = rows @ rows.T
    result = []
    for i, row in enumerate(cosines):
        chosen = nearest([-value for value in row], min(k, len(row)), i)
        result.append(sum(max(row[j], 0) ** alpha * np.float64(features[j]) for j in chosen) / len(chosen))
    return np.stack(result)
