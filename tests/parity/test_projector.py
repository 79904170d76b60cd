"""Projector and predictor of the image features: both views in training, and the running statistics after them."""

import ast
import re

import numpy as np
import pytest
import torch

from reid_core.modeling.heads import Predictor, Projector
from tests.parity import helpers

GOLDEN = helpers.load("model_svll")


def _our_name(name):
    """`image_mlp.layer1.weight` or `image_mlp.linear1.weight` -> `linear1.weight`."""
    return re.sub(r"^(layer|linear)(?=\d)", "linear", name.removeprefix("image_mlp."))


def _golden_mlp(case):
    keys, shapes = GOLDEN[f"{case}_state_keys"], GOLDEN[f"{case}_state_shapes"]
    shapes = {str(key): ast.literal_eval(str(shape)) for key, shape in zip(keys, shapes, strict=True)}
    shapes = {key: shape for key, shape in shapes.items() if key.startswith("image_mlp.")}
    weights = [shape for shape in shapes.values() if len(shape) == 2]
    hidden, width = weights[0]
    mlp = Projector(width, hidden, weights[-1][0]) if len(weights) == 3 else Predictor(width, hidden)
    extra = helpers.weights_module().extra
    mlp.load_state_dict(
        {_our_name(key): torch.from_numpy(np.asarray(extra(key, shape))) for key, shape in shapes.items()}
    )
    return mlp.train()


@pytest.mark.parametrize(("case",), helpers.cases("model_svll", r"(.*)_train_z1"))
def test_both_views_in_training(case):
    mlp = _golden_mlp(case)
    embeddings = mlp.project_views(*(torch.from_numpy(GOLDEN[f"{case}_train_z{view}"]) for view in (1, 2)))
    for view, embedding in enumerate(embeddings, start=1):
        expected = torch.from_numpy(GOLDEN[f"{case}_train_aug{view}_embed"])
        torch.testing.assert_close(embedding.detach(), expected, rtol=0, atol=2e-4)
    after = [key for key in GOLDEN if key.startswith(f"{case}_after_image_mlp.")]
    assert after
    for key in after:
        ours = mlp.state_dict()[_our_name(key.removeprefix(f"{case}_after_"))]
        torch.testing.assert_close(ours, torch.from_numpy(GOLDEN[key]), rtol=1e-5, atol=2e-5)
