"""Features of several models as those of one."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reid_core.retrieval.distance import prepare_features

HOW = ("concatenate", "average")


@torch.no_grad()
def combine_features(
    features: Sequence[np.ndarray | Tensor], how: str = "concatenate", weights: Sequence[float] | None = None
) -> Tensor:
    """The features of the same images by several models as one set, float32 [N, D], on the device of the first.

    features: floating point [N, D_i], image by image in one order; rows are scaled to unit length first, so that no
    model counts more for its scale. how: "concatenate" puts them side by side, D = D_1 + D_2 + ..., each times the
    root of its weight's share: rows have unit length, and cosine similarities are the weighted means of the models'
    own. "average" is the weighted mean of the rows, whose widths must be equal; it only makes sense for models that
    share a feature space, such as checkpoints of one run. weights: positive numbers; None: all alike.

    Raises ValueError for no features, different numbers of images, widths that differ where they must not, weights that
    do not fit, and what `prepare_features` refuses (NaN, infinite values, rows of zeros).
    """
    if how not in HOW:
        raise ValueError(f"how must be one of {', '.join(HOW)}, got {how!r}.")
    if not len(features):
        raise ValueError("There are no features to combine.")
    unit = [prepare_features(rows, f"model {number}'s", "cosine") for number, rows in enumerate(features)]
    shapes = [list(rows.shape) for rows in unit]
    if len({rows for rows, _ in shapes}) > 1:
        raise ValueError(f"The features to combine must be of the same images, got shapes {shapes}.")
    if how == "average" and len({width for _, width in shapes}) > 1:
        raise ValueError(f"Features of different widths cannot be averaged, got shapes {shapes}; concatenate them.")
    shares = _shares(len(unit), weights)
    unit = [rows.to(unit[0].device) for rows in unit]
    if how == "concatenate":
        return torch.cat([rows * math.sqrt(share) for rows, share in zip(unit, shares, strict=True)], dim=1)
    return sum(rows * share for rows, share in zip(unit, shares, strict=True))


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    weights = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(weights) != count or not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"There must be a positive weight for each of the {count} sets of features, got {weights}.")
    return [weight / sum(weights) for weight in weights]
