"""Prompts: the short computation equals the plain one, in values and gradients, for every way to write a template."""

import json

import pytest
import torch

from reid_core.modeling.clip import build_text_encoder, tokenize_template
from reid_core.modeling.prompts import IdentityPrompts, PromptedTextEncoder

TEMPLATES = ["A photo of a X X X X person.", "X", "X dog", "a X photo of X, the X", "A very long text about one X X."]


def _architecture(path, **text):
    content = {
        "embed_dim": 24,
        "quick_gelu": text.pop("quick_gelu", True),
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3, **text},
    }
    path.write_text(json.dumps(content))
    return str(path)


def _text_side(architecture, template=TEMPLATES[0], identities=7, std=1.0):
    torch.manual_seed(0)
    tokens = tokenize_template(template, architecture)
    encoder, vocabulary = build_text_encoder(architecture)
    prompts = IdentityPrompts(tokens, vocabulary, identities, std)
    return PromptedTextEncoder(prompts, encoder)


def _value_and_gradient(text, features, weights):
    (gradient,) = torch.autograd.grad((features * weights).sum(), text.prompts.table)
    return features.detach(), gradient


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("quick_gelu", [True, False])
def test_short_and_plain_computation_are_equal(tmp_path, template, quick_gelu):
    text = _text_side(_architecture(tmp_path / "small.json", quick_gelu=quick_gelu), template)
    identities = torch.tensor([3, 0, 6])
    weights = torch.randn(3, text.encoder.projected_width)
    short = _value_and_gradient(text, text(identities), weights)
    plain = _value_and_gradient(text, text.encoder(text.prompts(identities), text.prompts.end), weights)
    for ours, expected in zip(short, plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert plain[1][1].abs().max() == 0  # an identity that is not in the batch


def test_the_size_that_is_published(tmp_path):
    """ViT-B/16's text tower, a batch in random order: once per distinct identity or once per image, the same."""
    text = _text_side("ViT-B-16-quickgelu", identities=9, std=0.02)
    targets = torch.tensor([4, 1, 4, 8, 1])
    identities, slots = targets.unique(return_inverse=True)
    weights = torch.randn(5, text.encoder.projected_width)
    short = _value_and_gradient(text, text(identities)[slots], weights)
    plain = _value_and_gradient(text, text.encoder(text.prompts(targets), text.prompts.end), weights)
    for ours, expected in zip(short, plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_changed_prompts_are_read_up_to_their_end(tmp_path):
    text = _text_side(_architecture(tmp_path / "small.json"))
    prompts = torch.randn(4, 20, 32)
    torch.testing.assert_close(text.encode(prompts), text.encoder(prompts, text.prompts.end), rtol=1e-5, atol=1e-5)
    behind = prompts.clone()
    behind[:, text.prompts.end + 1 :] = 7.0
    assert torch.equal(text.encode(prompts), text.encode(behind))


@pytest.mark.parametrize("tower", [{"no_causal_mask": True}, {"pool_type": "last"}, {"pool_type": "first"}])
def test_other_towers_take_the_plain_path(tmp_path, tower):
    text = _text_side(_architecture(tmp_path / "other.json", **tower))
    assert not text.encoder.reads_end_causally
    identities = torch.arange(3)
    expected = text.encoder(text.prompts(identities), text.prompts.end)
    assert torch.equal(text(identities), expected)
    assert torch.equal(text.encode(text.prompts(identities)), expected)
    with pytest.raises(TypeError, match="not causal or not read at end-of-text"):
        text.encoder.encode_behind(torch.zeros(1, 3, 32))


@pytest.mark.parametrize("kind", [{"proj_bias": True}, {"ls_init_value": 0.1}, {"qk_norm": True}])
def test_variants_of_the_tower(tmp_path, kind):
    text = _text_side(_architecture(tmp_path / "variant.json", **kind))
    identities = torch.arange(3)
    expected = text.encoder(text.prompts(identities), text.prompts.end)
    torch.testing.assert_close(text(identities), expected, rtol=1e-5, atol=1e-5)


def test_all_features_do_not_depend_on_the_batch_size(tmp_path):
    text = _text_side(_architecture(tmp_path / "small.json"))
    whole = text.all_features()
    assert not whole.requires_grad
    torch.testing.assert_close(text.all_features(batch_size=2), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(text(torch.arange(7)).detach(), whole, rtol=1e-5, atol=1e-6)


def test_the_known_prefix_is_forgotten_when_weights_or_device_change(tmp_path):
    text = _text_side(_architecture(tmp_path / "small.json"))
    before = text(torch.arange(2))
    state = {name: 2 * value if value.is_floating_point() else value for name, value in text.state_dict().items()}
    text.load_state_dict(state)
    after = text(torch.arange(2))
    torch.testing.assert_close(after, text.encoder(text.prompts(torch.arange(2)), text.prompts.end))
    assert not torch.allclose(before, after)
    text.double()
    assert text(torch.arange(2)).dtype == torch.float64


def test_only_the_table_is_trained(tmp_path):
    text = _text_side(_architecture(tmp_path / "small.json"))
    assert [name for name, parameter in text.named_parameters() if parameter.requires_grad] == ["prompts.table"]


def test_sixteen_bits_stay_near(tmp_path):
    text = _text_side(_architecture(tmp_path / "small.json"), std=0.02)
    exact = text(torch.arange(7)).detach()
    with torch.autocast("cpu", torch.bfloat16):
        rough = text(torch.arange(7)).detach().float()
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()
