"""The model beyond parity: what its views see, and a ResNet's."""

import pytest
import torch

from reid_core.modeling.losses import simclr_loss, simsiam_loss
from reid_core.modeling.meta_arch import build_model
from reid_core.projects import load_config
from tests.paths import ROOT


@pytest.fixture
def make_model(self_supervised_config, self_supervised_run):
    def make(identities=4, **more):
        torch.manual_seed(0)
        cfg = load_config(self_supervised_config, self_supervised_run(**more))
        model = build_model(cfg, "cpu", identities, 2, 1)
        model.fix_text_features()
        return model

    return make


def _batch():
    views = torch.randint(0, 256, (8, 3, 3, 64, 32), dtype=torch.uint8)
    return {"views": views, "targets": torch.arange(8) % 4, "camids": torch.arange(8) % 2}


@pytest.mark.parametrize("vision_loss", ["simclr", "simsiam"])
def test_vision_loss(make_model, vision_loss):
    model, batch = make_model(SVLL__VISION_LOSS=vision_loss, SVLL__VISION_WEIGHT=0.5).train(), _batch()
    found = model(batch)["loss_vision"]
    first, second = (model.backbone(model.normalise(batch["views"][:, view])).last for view in (1, 2))
    projected = [model.image_head(features) for features in (first, second)]
    expected = simclr_loss(*projected, 0.1) if vision_loss == "simclr" else simsiam_loss(*projected, first, second)
    torch.testing.assert_close(found, 0.5 * expected, rtol=1e-4, atol=1e-5)


def test_the_other_losses_are_those_of_the_plain_view(make_model):
    model, batch = make_model().train(), _batch()
    found = model(batch)
    plain = {**batch, "images": batch["views"][:, 0]}
    expected = model.feature_losses(model.image_features(plain), batch["targets"])
    assert expected.keys() == found.keys() - {"loss_vision"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_resnet_takes_its_views_one_by_one(make_model):
    """Its norms see each view alone, as if they were encoded one after another."""
    model = make_model(
        MODEL__BACKBONE__ARCHITECTURE=ROOT / "configs" / "clip" / "tiny_rn.json",
        MODEL__BACKBONE__SIE_CAMERA=False,
        MODEL__BACKBONE__PATCH_STRIDE=0,
    ).train()
    batch = _batch()
    found = model._encode_views(batch["views"], None, None)
    for view, features in enumerate(found):
        expected = model.backbone(model.normalise(batch["views"][:, view]))
        torch.testing.assert_close(features.last, expected.last, rtol=1e-4, atol=1e-4)


def test_another_number_of_views_is_refused(make_model):
    batch = _batch()
    with pytest.raises(ValueError, match=r"takes 3 views of each image, got 2: INPUT.EXTRA_VIEWS 2"):
        make_model().train()({**batch, "views": batch["views"][:, :2]})
