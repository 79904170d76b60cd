"""A small ranked set with pictures, for the tests of the report."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from reid_core.evaluation import evaluate, sample_distances
from reid_core.structures import ReIDImage


@pytest.fixture
def ranked_set(tmp_path):
    """Eight identities, each with a query and with two gallery images by each of three cameras, scored."""
    generator = np.random.default_rng(0)
    folder = tmp_path / 'a "folder" <b>odd & name'
    folder.mkdir()
    centres = generator.standard_normal((8, 16))
    splits = []
    for split, per_camera in (("query", 1), ("gallery", 2)):
        records, features = [], []
        for pid in range(8):
            for camid in range(1 if split == "query" else 3):
                for number in range(per_camera):
                    path = folder / f"{split}_{pid}_{camid}_{number}.jpg"
                    pixels = generator.integers(0, 255, (48, 24, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(path)
                    records.append(ReIDImage(str(path), pid, camid))
                    features.append(centres[pid] + (0.2 + pid / 3) * generator.standard_normal(16))
        splits.append((records, np.array(features, dtype=np.float32)))
    (query, query_features), (gallery, gallery_features) = splits
    labels = [[getattr(record, name) for record in split] for name in ("pid", "camid") for split in (query, gallery)]
    arrays = (query_features, gallery_features, *labels)
    return SimpleNamespace(
        query=query,
        gallery=gallery,
        results=evaluate(*arrays, per_query=True, top_k=20),
        distances=sample_distances(*arrays),
    )
