"""The galleries' interface on a dictionary: one image at a time, float64, no index."""

import numpy as np


class NaiveGallery:
    def __init__(self, metric="cosine"):
        self.metric, self.images = metric, {}

    def add(self, features, ids, camids=None, timestamps=None):
        camids = [-1] * len(ids) if camids is None else camids
        timestamps = [float("nan")] * len(ids) if timestamps is None else timestamps
        for feature, identity, camid, timestamp in zip(features, ids, camids, timestamps, strict=True):
            assert int(identity) not in self.images
            self.images[int(identity)] = (self._prepared(feature), int(camid), float(timestamp))

    def remove(self, ids):
        for identity in ids:
            del self.images[int(identity)]

    def search(self, features, k, camids=None, only_camids=None, exclude_camids=None, time_range=None):
        """Four lists of rows, of k entries each."""
        rows = []
        for query, feature in enumerate(features):
            own = -1 if camids is None else int(camids[query])
            hits = []
            for identity, (row, camid, timestamp) in self.images.items():
                if (own >= 0 and camid == own) or (only_camids is not None and camid not in only_camids):
                    continue
                if exclude_camids is not None and camid in exclude_camids:
                    continue
                if time_range is not None:
                    first, last = time_range
                    if np.isnan(timestamp) or (first is not None and timestamp < first):
                        continue
                    if last is not None and timestamp > last:
                        continue
                squared = ((self._prepared(feature).astype(np.float64) - row) ** 2).sum()
                hits.append((squared, identity, camid, timestamp))
            hits = sorted(hits)[:k] + [(np.inf, -1, -1, np.nan)] * (k - len(hits))
            rows.append(hits[:k])
        return [[[hit[column] for hit in row] for row in rows] for column in range(4)]

    def _prepared(self, feature):
        feature = np.asarray(feature, dtype=np.float32)
        if self.metric == "cosine":
            feature = (feature / np.sqrt((feature.astype(np.float64) ** 2).sum())).astype(np.float32)
        return feature


def assert_same(found, naive, metric):
    """The result of a searcher against that of the naive one."""
    squared, ids, camids, timestamps = (np.array(rows) for rows in naive)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.camids, camids)
    np.testing.assert_array_equal(found.timestamps, timestamps)
    expected = squared / 2 if metric == "cosine" else np.sqrt(squared)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-6, atol=1e-12)
    assert found.ids.dtype == found.camids.dtype == np.int64
    assert found.distances.dtype == np.float32 and found.timestamps.dtype == np.float64


def random_gallery(seed, count, width=8, coarse=False):
    """Features, ids (not in order), camids with some unknown, timestamps with some unknown. coarse: many ties."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((count, width), dtype=np.float32)
    if coarse:
        features = generator.integers(1, 3, (count, width)).astype(np.float32)
    ids = generator.permutation(count * 3)[:count]
    timestamps = np.where(generator.random(count) < 0.1, np.nan, generator.integers(0, 50, count))
    return features, ids, generator.integers(-1, 4, count), timestamps


FILTERS = [
    {},
    {"camids": [0, 1, 2, -1, 3]},
    {"only_camids": [1, 3]},
    {"only_camids": []},
    {"exclude_camids": (0, 2)},
    {"time_range": (10, 20)},
    {"time_range": (None, 15.5)},
    {"time_range": (15, None)},
    {"time_range": (None, None)},
    {"camids": [0, 0, 2, -1, 3], "only_camids": {0, 1, 2}, "exclude_camids": [1], "time_range": (5, 45)},
]
"""Arguments of a search by five queries."""
