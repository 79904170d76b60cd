"""The model beyond parity: templates by kind, the third loss, errors."""

import pytest
import torch
from torch.nn import functional as F

from reid_core.config import ConfigError
from reid_core.modeling.meta_arch import build_model
from reid_core.projects import load_config


@pytest.fixture
def make_model(prompts_config, prompts_run):
    def make(identities=4, **more):
        torch.manual_seed(0)
        return build_model(load_config(prompts_config, prompts_run(**more)), "cpu", identities, 2, 1)

    return make


def _batch():
    images = torch.randint(0, 256, (8, 3, 64, 32), dtype=torch.uint8)
    return {"images": images, "targets": torch.arange(8) % 4}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "A photo of a X X X X person."),
        ({"DATASETS__TRAIN": "['VeRi776']"}, "A photo of a X X X X vehicle."),
        ({"DATASETS__TRAIN": "['Market1501', 'MSMT17']"}, "A photo of a X X X X person."),
        ({"CLIP_REID__TEMPLATE": "A photo of a X X X X dog."}, "A photo of a X X X X dog."),
    ],
)
def test_template(make_model, more, words):
    ours = make_model(**more).text.prompts.template
    torch.testing.assert_close(ours, make_model(CLIP_REID__TEMPLATE=words).text.prompts.template)


def test_mixed_kinds_need_a_template(make_model):
    with pytest.raises(ConfigError, match="person and vehicle: no one template fits"):
        make_model(DATASETS__TRAIN="['Market1501', 'VeRi776']")
    make_model(DATASETS__TRAIN="['Market1501', 'VeRi776']", CLIP_REID__TEMPLATE="a X.")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_image_to_text_loss(make_model, smoothing):
    model = make_model(CLIP_REID__IMAGE_TO_TEXT_WEIGHT=0.5, MODEL__LOSSES__LABEL_SMOOTHING=smoothing)
    model.fix_text_features()
    batch = _batch()
    losses = model.train()(batch)
    with torch.no_grad():
        log_shares = (model.shared_space_features(batch) @ model.text_features.T).log_softmax(dim=1)
    target = F.one_hot(batch["targets"], 4) * (1 - smoothing) + smoothing / 4
    expected = -0.5 * (target * log_shares).sum(dim=1).mean()
    torch.testing.assert_close(losses["loss_image_to_text"], expected, rtol=1e-4, atol=1e-5)
    right = log_shares.argmax(dim=1) == batch["targets"]
    assert float(losses["metric/image_to_all_texts_accuracy"]) == pytest.approx(float(right.float().mean()))


def test_without_text_features_there_is_no_training(make_model):
    with pytest.raises(ValueError, match="train the prompts first"):
        make_model().train()(_batch())


def test_for_evaluation_there_is_no_text_side(make_model):
    model = make_model(identities=0)
    assert not [name for name in model.state_dict() if name.startswith("text")]
    assert model.eval()(_batch()).shape == (8, 48)


def test_side_information_is_not_seen_by_stage_one(make_model):
    model = make_model(MODEL__BACKBONE__SIE_CAMERA=True).eval()
    batch = {**_batch(), "camids": torch.arange(8) % 2}
    with torch.no_grad():
        model.backbone.cv_embed.fill_(3.0)
        plain = model.shared_space_features(batch)
        model.backbone.cv_embed.fill_(-3.0)
        assert torch.equal(model.shared_space_features(batch), plain)
        assert not torch.allclose(model.image_features(batch).projected, plain)
