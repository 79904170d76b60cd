"""The adapted ViT-B/16 gives the features that the authors' programs give: sizes, strides, side information."""

import re
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reid_core.modeling.backbones import CLIPImageBackbone
from tests.parity import helpers

GOLDEN = helpers.load("vit_image")
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def backbone_of(tmp_path_factory):
    """backbone_of(case) -> the backbone of `{H}x{W}_s{stride}`, with the golden weights and SIE table."""
    weights = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(helpers.openai_state_dict("ViT-B-16"), weights)

    @cache
    def build(case: str) -> CLIPImageBackbone:
        height, width, stride = map(int, re.fullmatch(r"(\d+)x(\d+)_s(\d+)", case).groups())
        table = torch.from_numpy(helpers.weights_module().extra("cv_embed", (len(GOLDEN["cv_embed_head"]), 768)))
        backbone = CLIPImageBackbone(
            "ViT-B-16-quickgelu", (height, width), str(weights), patch_stride=stride, num_cameras=len(table)
        )
        backbone.load_state_dict({**backbone.state_dict(), "cv_embed": table})
        return backbone.eval()

    return build


def images_of(case: str, batch: int) -> torch.Tensor:
    height, width = map(int, case.split("_")[0].split("x"))
    return helpers.image_batch(GOLDEN[f"{case}_seed"], batch, height, width)


def assert_near(values: torch.Tensor, key: str) -> None:
    np.testing.assert_allclose(values.detach().numpy(), GOLDEN[key], rtol=0, atol=TOLERANCE, err_msg=key)


@pytest.mark.parametrize("case", [case for (case,) in helpers.cases("vit_image", r"(\d+x\d+_s\d+)_seed")])
def test_input_and_positions(case, backbone_of):
    table = backbone_of(case).visual.positional_embedding.detach()
    head = GOLDEN[f"{case}_x_head"]
    images = images_of(case, len(head))
    np.testing.assert_array_equal(images[:, :, 0, : head.shape[-1]].numpy(), head)
    assert list(table.shape) == GOLDEN[f"{case}_posemb_shape"].tolist()
    assert_near(torch.cat([table[:4], table[-1:]]), f"{case}_posemb_rows_first4_last1")
    np.testing.assert_allclose(helpers.sums(table), GOLDEN[f"{case}_posemb_sums"], rtol=1e-6)


@pytest.mark.parametrize(
    ("case", "coefficient"), helpers.cases("vit_image", r"(\d+x\d+_s\d+)(?:_sie([\d.]+))?_x12_cls"), ids=str
)
def test_features(case, coefficient, backbone_of):
    """coefficient: of the side information embedding, empty where no cameras are given."""
    key = case if not coefficient else f"{case}_sie{coefficient}"
    backbone = backbone_of(case)
    backbone.sie_coefficient = float(coefficient or 0)
    cameras = None if not coefficient else torch.from_numpy(GOLDEN["cams"])
    images = images_of(case, len(GOLDEN[f"{key}_x12_cls"]))
    with torch.no_grad():
        features = backbone(images, cameras)
        tokens = backbone.forward_tokens(images, cameras)
    for at_class_token in (features, [part[:, 0] for part in tokens]):
        for values, name in zip(at_class_token, ("x11_cls", "x12_cls", "proj_cls"), strict=True):
            assert_near(values, f"{key}_{name}")
    assert_near(tokens.penultimate[:, 1:].mean(dim=1)[:, :64], f"{key}_x11_patchmean")
    assert_near(tokens.last[:, 1:].mean(dim=1)[:, :64], f"{key}_x12_patchmean")
    # the signed sum cancels: what matters is its error against the sum of magnitudes
    expected = GOLDEN[f"{key}_proj_sums"]
    np.testing.assert_allclose(helpers.sums(tokens.projected), expected, rtol=1e-6, atol=1e-7 * expected[1])


def test_side_information_table():
    head = GOLDEN["cv_embed_head"]
    table = helpers.weights_module().extra("cv_embed", (len(head), 768))
    np.testing.assert_array_equal(table[:, : head.shape[1]], head)
