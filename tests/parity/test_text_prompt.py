"""Prompts, their text features and gradients, and the tokeniser."""

import numpy as np
import pytest
import torch

from reid_core.modeling.clip import build_text_encoder, build_tokenizer, tokenize_template
from reid_core.modeling.prompts import IdentityPrompts, PromptedTextEncoder
from tests.parity import helpers

GOLDEN = helpers.load("text_prompt")
CASES = helpers.cases("text_prompt", r"(ViT|RN50)_(\w+?)_ids")
VEHICLES = ("veri", "VehicleID")
WEIGHTS = {"ViT": "ViT-B-16", "RN50": "RN50"}


def _text_side(encoder, dataset):
    clip, extra = helpers.openai_state_dict(WEIGHTS[encoder]), helpers.weights_module().extra
    kind = "vehicle" if dataset in VEHICLES else "person"
    architecture = f"{WEIGHTS[encoder]}-quickgelu"
    template = tokenize_template(f"A photo of a X X X X {kind}.", architecture)
    tower, _ = build_text_encoder(architecture)
    tower.load_state_dict({name: clip[name] for name in tower.state_dict()})
    prompts = IdentityPrompts(template, clip["token_embedding.weight"], int(GOLDEN["num_classes"]))
    with torch.no_grad():
        prompts.table.copy_(torch.from_numpy(extra("prompt_learner.cls_ctx", tuple(prompts.table.shape))))
    return template, PromptedTextEncoder(prompts, tower)


@pytest.mark.parametrize(("encoder", "dataset"), CASES)
@pytest.mark.parametrize("way", ["short", "plain"])
def test_prompts_features_and_gradients(encoder, dataset, way):
    template, text = _text_side(encoder, dataset)
    case, labels = f"{encoder}_{dataset}", torch.from_numpy(GOLDEN["labels"])
    np.testing.assert_array_equal(template.token_ids, GOLDEN[f"{case}_ids"])
    prompts = text.prompts(labels)
    head = GOLDEN[f"{case}_prompt_first8dims"]
    np.testing.assert_allclose(prompts[:, : head.shape[1], : head.shape[2]].detach(), head, atol=1e-7)
    np.testing.assert_allclose(helpers.sums(prompts.detach()), GOLDEN[f"{case}_prompt_sums"], rtol=1e-6)
    _, prefix, width = GOLDEN[f"{case}_prefix_shape"]
    assert (text.prompts.prefix_length, text.encoder.width) == (prefix, width)
    assert len(template.token_ids) - template.learned[-1] - 1 == GOLDEN[f"{case}_suffix_shape"][1]
    features = text(labels) if way == "short" else text.encoder(prompts, template.end)
    expected = GOLDEN[f"{case}_text_feat"]
    np.testing.assert_allclose(features.detach(), expected, atol=2e-5 * max(1, np.abs(expected).max()))
    generator = np.random.Generator(np.random.PCG64(int(GOLDEN[f"{case}_gseed"])))
    (features * torch.from_numpy(generator.standard_normal(expected.shape, dtype=np.float32))).sum().backward()
    gradient, dims = text.prompts.table.grad, GOLDEN[f"{case}_cls_ctx_grad_first64dims"]
    largest = np.abs(dims).max()
    np.testing.assert_allclose(gradient[labels][..., : dims.shape[-1]], dims, atol=1e-5 * largest)
    np.testing.assert_allclose(helpers.sums(gradient)[1:], GOLDEN[f"{case}_cls_ctx_grad_sums"][1:], rtol=1e-5)


def test_tokenizer_is_the_authors():
    texts = [bytes.fromhex(text).decode() for text in GOLDEN["tok_strings"].tolist()]
    np.testing.assert_array_equal(build_tokenizer("ViT-B-16-quickgelu")(texts), GOLDEN["tok_ids"])


def test_plain_text_features():
    clip = helpers.openai_state_dict("ViT-B-16")
    tower, _ = build_text_encoder("ViT-B-16-quickgelu")
    tower.load_state_dict({name: clip[name] for name in tower.state_dict()})
    ids = torch.from_numpy(GOLDEN["tok_ids"])
    for text, expected in zip(ids, GOLDEN["tok_encode_text"], strict=True):
        with torch.no_grad():
            ours = tower(clip["token_embedding.weight"][text][None], int(text.argmax()))[0]
        np.testing.assert_allclose(ours, expected, atol=2e-5 * max(1, np.abs(expected).max()))
