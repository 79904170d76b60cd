"""The text tower of open_clip's models: against open_clip's own pass, from weights files, and what is refused."""

import json

import open_clip
import pytest
import torch

from reid_core.modeling.clip import build_image_tower, build_text_encoder, build_tokenizer, read_architecture

TEXTS = ["a person with a red bag", "car", "a photo of a very small dog, running"]


@pytest.mark.parametrize("architecture", ["ViT-B-32", "RN50-quickgelu", "ViT-L-14-quickgelu", "ViT-H-14"])
def test_equals_open_clip_and_reads_its_widths(architecture, tmp_path):
    """The architecture's own widths, with two of its layers."""
    config = read_architecture(architecture)
    config["text_cfg"]["layers"] = 2
    config["vision_cfg"] = {"layers": 1, "width": 8, "head_width": 8, "patch_size": 8, "image_size": 8}
    (tmp_path / "short.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config).eval()
    ids = build_tokenizer(architecture)(TEXTS)
    encoder, _ = build_text_encoder(str(tmp_path / "short.json"))
    encoder.load_state_dict({name: value for name, value in model.state_dict().items() if name in encoder.state_dict()})
    with torch.no_grad():
        expected = model.encode_text(ids)
        for text, theirs in zip(ids, expected, strict=True):
            end = int(text.argmax())
            embedded = model.token_embedding(text)[None]
            scale = float(theirs.abs().max())
            torch.testing.assert_close(encoder(embedded, end)[0], theirs, rtol=1e-5, atol=1e-5 * scale)
            short = encoder.encode_behind(embedded[:, 2 : end + 1], encoder.encode_prefix(embedded[0, :2]))[0]
            torch.testing.assert_close(short, theirs, rtol=1e-5, atol=1e-5 * scale)
    assert (encoder.width, encoder.projected_width) == (config["text_cfg"]["width"], config["embed_dim"])


def test_weights_file(small_clip, tmp_path):
    torch.manual_seed(1)
    model = open_clip.CLIP(
        16,
        {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "mlp_ratio": 2.0},
        {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        quick_gelu=True,
    )
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    encoder, vocabulary = build_text_encoder(str(small_clip), str(tmp_path / "clip.pt"))
    assert torch.equal(encoder.ln_final.weight, model.ln_final.weight)
    assert torch.equal(encoder.positional_embedding, model.positional_embedding)
    assert torch.equal(vocabulary, model.token_embedding.weight)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_weights_without_a_text_tower_are_refused(small_clip, tmp_path):
    torch.save(build_image_tower(str(small_clip)).state_dict(), tmp_path / "image.pt")
    with pytest.raises(ValueError, match="holds no text tower"):
        build_text_encoder(str(small_clip), str(tmp_path / "image.pt"))


@pytest.mark.parametrize("architecture", ["roberta-ViT-B-32", "coca_base"])
def test_foreign_towers_are_refused(architecture):
    with pytest.raises(ValueError, match="open_clip's own text transformer"):
        build_text_encoder(architecture)


def test_texts_of_another_length_are_refused(small_clip):
    encoder, vocabulary = build_text_encoder(str(small_clip))
    with pytest.raises(ValueError, match="have 5 tokens, the context 77"):
        encoder(vocabulary[:5][None], 4)
