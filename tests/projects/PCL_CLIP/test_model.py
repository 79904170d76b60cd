"""The prototype method's parts beyond parity: switches, memory from outside, evaluation without identities."""

import pytest
import torch
from torch.nn import functional as F

from reid_core.config import ConfigError
from reid_core.engine.encoding import encode
from reid_core.modeling.meta_arch import build_model
from reid_core.projects import load_config


@pytest.fixture
def make_model(market_config, small_run):
    def make(identities=4, cameras=1, views=1, **more):
        cfg = load_config(market_config, small_run(**more))
        torch.manual_seed(0)
        return build_model(cfg, "cpu", identities, cameras, views)

    return make


def _batch(batch=8, identities=4, **more):
    images = torch.randint(0, 256, (batch, 3, 64, 32), dtype=torch.uint8)
    return {"images": images, "targets": torch.arange(batch) % identities, "indices": torch.arange(batch), **more}


def _fill_memory(model, batch):
    model.rebuild_memory(encode(model, [batch]), batch["targets"])


def test_losses_are_weighted_and_equal_their_definition(make_model):
    model = make_model(PCL__LOSS_WEIGHT=2.0, PCL__ID_LOSS_WEIGHT=0.5, PCL__TEMPERATURE=0.1)
    batch = _batch()
    _fill_memory(model, batch)
    model.train()
    losses = model(batch)
    feature = model.features(batch)
    unit = F.normalize(feature, dim=1)
    logits = unit @ model.memory.prototypes.T / 0.1
    picked = logits.log_softmax(dim=1)[torch.arange(8), batch["targets"]]
    torch.testing.assert_close(losses["loss_pcl"], -2.0 * picked.mean())
    log_probability = model.heads.classifier(feature).log_softmax(dim=1)
    smooth = 0.9 * log_probability[torch.arange(8), batch["targets"]] + 0.1 * log_probability.mean(dim=1)
    torch.testing.assert_close(losses["loss_id"], -0.5 * smooth.mean())


def test_prototypes_alone_and_identities_alone(make_model):
    model = make_model(PCL__ID_LOSS_WEIGHT=0.0)
    assert model.heads.classifier is None
    batch = _batch()
    _fill_memory(model, batch)
    assert set(model.train()(batch)) == {"loss_pcl"}
    assert set(make_model(PCL__LOSS_WEIGHT=0.0).train()(batch)) == {"loss_id"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"PCL__TEMPERATURE": 0.0}, "PCL.TEMPERATURE must be positive"),
        ({"PCL__LOSS_WEIGHT": 0.0, "PCL__ID_LOSS_WEIGHT": 0.0}, "no loss is left"),
    ],
)
def test_bad_settings(make_model, more, message):
    with pytest.raises(ConfigError, match=message):
        make_model(**more)


def test_a_memory_that_nobody_filled_is_refused(make_model):
    with pytest.raises(ValueError, match="add PrototypeMemoryHook to HOOKS"):
        make_model().train()(_batch())


def test_the_memory_moves_only_when_it_is_told_to(make_model):
    model = make_model()
    batch = _batch()
    _fill_memory(model, batch)
    before = model.memory.prototypes.clone()
    sum(model.train()(batch).values()).backward()
    assert torch.equal(model.memory.prototypes, before)
    model.update_memory()
    assert not torch.equal(model.memory.prototypes, before)
    torch.testing.assert_close(model.memory.prototypes.norm(dim=1), torch.ones(4))


def test_a_model_for_evaluation_has_neither_classifier_nor_prototypes(make_model):
    model = make_model(identities=0)
    assert model.heads.classifier is None
    assert model.memory.prototypes.shape[0] == 0
    features = encode(model, [_batch()])
    assert features.shape == (8, model.heads.output_width)


def test_side_information_works_and_may_be_missing(make_model):
    model = make_model(cameras=3, views=2, MODEL__BACKBONE__SIE_CAMERA=True, MODEL__BACKBONE__SIE_VIEW=True)
    model.backbone.cv_embed.data.normal_()
    model.eval()
    batch = _batch(camids=torch.arange(8) % 3, viewids=torch.arange(8) % 2)
    with_side = model(batch)
    without = model({key: value for key, value in batch.items() if not key.endswith("ids")})
    assert (with_side - without).abs().max() > 1e-3


def test_the_patch_projection_stands_still(make_model):
    model = make_model()
    batch = _batch()
    _fill_memory(model, batch)
    sum(model.train()(batch).values()).backward()
    assert model.backbone.visual.conv1.weight.grad is None
    assert not model.heads.bottleneck.bias.requires_grad
    assert model.backbone.visual.proj.grad is not None
