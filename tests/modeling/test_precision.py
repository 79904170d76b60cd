"""Encoding in 16 bits: autocast's numbers without its conversions, and the weights back as they were."""

import pytest
import torch
from torch.profiler import profile

from reid_core.engine.encoding import encode
from reid_core.modeling.meta_arch import build_model
from reid_core.modeling.precision import convert_weights, encoding_dtype, encoding_precision
from reid_core.projects import load_config
from tests.paths import ROOT


@pytest.fixture(params=["tiny_vit", "tiny_rn"])
def model(request):
    words = ["MODEL.BACKBONE.PRETRAINED", "", "INPUT.SIZE_TRAIN", "[128, 64]", "INPUT.SIZE_TEST", "[128, 64]"]
    words += ["MODEL.BACKBONE.ARCHITECTURE", str(ROOT / "configs" / "clip" / f"{request.param}.json")]
    torch.manual_seed(0)
    return build_model(load_config(None, words), "cpu", 0, 1, 1).eval()


def _batch():
    return {"images": torch.randint(0, 256, (5, 3, 128, 64), dtype=torch.uint8)}


@torch.no_grad()
def test_the_features_are_those_of_autocast(model):
    batch = _batch()
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(batch)
    with encoding_precision(model, torch.bfloat16):
        found = model(batch)
    assert torch.equal(found, expected)
    assert not torch.equal(found.float(), model(batch))


@torch.no_grad()
def test_the_weights_are_the_former_ones_afterwards_whatever_happens(model):
    model.backbone.visual.conv1.requires_grad_(False)
    before = {name: (parameter, parameter.data_ptr()) for name, parameter in model.named_parameters()}
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    with pytest.raises(KeyboardInterrupt), encoding_precision(model, torch.bfloat16):
        assert any(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
        raise KeyboardInterrupt
    for name, parameter in model.named_parameters():
        assert before[name][0] is parameter
        assert (parameter.data_ptr(), parameter.dtype) == (before[name][1], torch.float32)
        assert parameter.requires_grad == (name not in frozen)


def test_heads_and_norms_stay_in_float32(model):
    converted = {id(parameter) for parameter, *_ in convert_weights(model, torch.bfloat16)}
    assert converted
    for name, parameter in model.named_parameters():
        assert (parameter.dtype == torch.bfloat16) == (id(parameter) in converted)
        if not name.startswith("backbone.") or parameter.ndim < 2 or "embed" in name:
            assert parameter.dtype == torch.float32, name


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_a_batch_is_one_product_also_where_the_input_is_not_contiguous(guard):
    layer = torch.nn.Linear(8, 8).requires_grad_(False)
    tokens = torch.randn(5, 4, 8).transpose(0, 1)
    with guard(), encoding_precision(layer, torch.bfloat16), profile() as profiled:
        layer(tokens)
    operators = {event.name for event in profiled.events()}
    assert "aten::linear" in operators
    assert "aten::bmm" not in operators  # image by image


def test_float32_changes_nothing(model):
    with encoding_precision(model, None):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_precisions_by_name():
    cpu = torch.device("cpu")
    assert encoding_dtype("float32", cpu) is None
    assert encoding_dtype("bfloat16", cpu) == torch.bfloat16
    assert encoding_dtype("auto", cpu) in (None, torch.bfloat16)
    assert encoding_dtype("auto", torch.device("mps")) is None
    assert encoding_dtype("float16", torch.device("cuda")) == torch.float16
    for word, text in [("fp16", "got 'fp16'"), ("float16", "is for GPUs")]:
        with pytest.raises(ValueError, match=text):
            encoding_dtype(word, cpu)


def test_evaluation_takes_the_precision(model):
    batches = [{**_batch(), "indices": torch.arange(5)}]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(batches[0]).float()
    assert torch.equal(encode(model, batches, precision="bfloat16"), expected)
    assert torch.equal(encode(model, batches), model(batches[0]).detach())
