"""The adapted RN50 gives the features that the authors' programs give."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reid_core.modeling.backbones import CLIPImageBackbone
from tests.parity import helpers

GOLDEN = helpers.load("rn50_image")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("weights") / "rn50.safetensors"
    save_file(helpers.openai_state_dict("RN50"), path)
    return str(path)


@pytest.mark.parametrize("case", [case for (case,) in helpers.cases("rn50_image", r"(\d+x\d+)_seed")])
def test_features(case, weights):
    height, width = map(int, case.split("x"))
    backbone = CLIPImageBackbone("RN50-quickgelu", (height, width), weights).eval()
    table = backbone.visual.attnpool.positional_embedding.detach()
    assert list(table.shape) == GOLDEN[f"{case}_posemb_shape"].tolist()
    ends = torch.cat([table[:4], table[-1:]])
    np.testing.assert_allclose(ends, GOLDEN[f"{case}_posemb_rows_first4_last1"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(helpers.sums(table), GOLDEN[f"{case}_posemb_sums"], rtol=1e-6)

    batch = len(GOLDEN[f"{case}_attnpool0"])
    images = helpers.image_batch(GOLDEN[f"{case}_seed"], batch, height, width)
    with torch.no_grad():
        features = backbone(images)
        tokens = backbone.forward_tokens(images)
    for values, name in zip(features, ("x3_avg", "x4_avg", "attnpool0"), strict=True):
        np.testing.assert_allclose(values, GOLDEN[f"{case}_{name}"], rtol=0, atol=2e-5, err_msg=name)
    for values, name in zip(tokens, ("x3", "x4", "attnpool_all"), strict=True):
        expected = GOLDEN[f"{case}_{name}_sums"]
        np.testing.assert_allclose(helpers.sums(values), expected, rtol=1e-5, atol=1e-6 * expected[1], err_msg=name)

    rows, columns = backbone.visual.grid
    for values, name in ((tokens.penultimate, "x3"), (tokens.last, "x4")):
        assert [batch, values.shape[2], rows, columns] == GOLDEN[f"{case}_{name}_shape"].tolist()
        assert values.shape[1] == rows * columns
    positions, images_first, channels = GOLDEN[f"{case}_proj_shape"].tolist()  # stored with the positions first
    assert tokens.projected.shape == (images_first, positions, channels)
