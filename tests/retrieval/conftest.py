"""Random features for the retrieval tests."""

import numpy as np
import pytest


@pytest.fixture
def clustered():
    """features(count, width, identities, noise, seed) -> float32 [count, width], around one direction an identity."""

    def features(count=120, width=16, identities=8, noise=0.5, seed=0):
        generator = np.random.default_rng(seed)
        centres = generator.standard_normal((identities, width))
        rows = centres[generator.integers(0, identities, count)] + noise * generator.standard_normal((count, width))
        return rows.astype(np.float32)

    return features
