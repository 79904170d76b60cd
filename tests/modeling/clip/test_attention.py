"""Attention maps against softmaxes written out head by head and block by block."""

import json
import math

import pytest
import torch
from torch import nn

from reid_core.modeling.clip import (
    AdaptedModifiedResNet,
    AdaptedVisionTransformer,
    attention_maps,
    build_image_tower,
    read_architecture,
)


def randomised(tower: nn.Module) -> nn.Module:
    """The tower with weights large enough that its attention is far from even."""
    for parameter in tower.parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    return tower


def plain_attention(attention: nn.MultiheadAttention, tokens: torch.Tensor) -> list[list[list[float]]]:
    """Mean over the heads of one image's attention among its tokens [N, D], as nested lists of numbers."""
    count, width = tokens.shape
    size = width // attention.num_heads
    query_weight, key_weight, _ = attention.in_proj_weight.split(width)
    query_bias, key_bias, _ = attention.in_proj_bias.split(width)
    mean = [[0.0] * count for _ in range(count)]
    for head in range(attention.num_heads):
        rows = slice(head * size, (head + 1) * size)
        queries = tokens @ query_weight[rows].T + query_bias[rows]
        keys = tokens @ key_weight[rows].T + key_bias[rows]
        for i in range(count):
            powers = [math.exp(float(queries[i] @ keys[j]) / math.sqrt(size)) for j in range(count)]
            for j in range(count):
                mean[i][j] += powers[j] / sum(powers) / attention.num_heads
    return mean


def plain_maps(tower, images, class_offset):
    """Rollout and last attention of the class token, [B, 1 + h*w] each, with open_clip's blocks as they are."""
    rollouts, lasts = [], []
    for image, offset in zip(images, class_offset, strict=True):
        tokens = tower.conv1(image[None]).flatten(2)[0].T
        tokens = torch.cat([(tower.class_embedding + offset)[None], tokens]) + tower.positional_embedding
        tokens = tower.ln_pre(tokens)
        rollout = torch.eye(len(tokens), dtype=torch.float64)
        for block in tower.transformer.resblocks:
            attention = torch.tensor(plain_attention(block.attn, block.ln_1(tokens)), dtype=torch.float64)
            rollout = (0.5 * attention + 0.5 * torch.eye(len(tokens), dtype=torch.float64)) @ rollout
            tokens = block(tokens[None])[0]
        rollouts.append(rollout[0])
        lasts.append(attention[0])
    return torch.stack(rollouts), torch.stack(lasts)


@pytest.mark.parametrize("stride", [0, 12])
@torch.no_grad()
def test_maps_match_plain_loops(small_vit, stride):
    torch.manual_seed(3)
    tower = randomised(AdaptedVisionTransformer(build_image_tower(small_vit), (48, 32), stride)).eval()
    images, offset = torch.randn(2, 3, 48, 32), torch.randn(2, 64)
    found = attention_maps(tower, images, offset)
    for map_, expected in zip(found, plain_maps(tower, images, offset), strict=True):
        assert map_.shape == (2, *tower.grid)
        torch.testing.assert_close(map_.flatten(1).double(), expected[:, 1:], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(map_.sum(dim=(1, 2)).double(), 1 - expected[:, 0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found.rollout, found.last, atol=1e-3)


@torch.no_grad()
def test_last_attention_of_a_resnet_is_its_pools(small_resnet):
    torch.manual_seed(4)
    tower = AdaptedModifiedResNet(build_image_tower(small_resnet), (64, 32)).eval()
    images, pool = torch.randn(2, 3, 64, 32), tower.attnpool
    found = attention_maps(tower, images)
    assert torch.equal(found.rollout, found.last)
    for image, map_ in zip(tower.forward_tokens(images).last, found.last, strict=True):
        tokens = torch.cat([image.mean(dim=0, keepdim=True), image]) + pool.positional_embedding
        query, keys = pool.q_proj(tokens[0]), pool.k_proj(tokens)
        size = len(query) // pool.num_heads
        expected = torch.zeros(len(tokens))
        for head in range(pool.num_heads):
            rows = slice(head * size, (head + 1) * size)
            powers = (keys[:, rows] @ query[rows] / math.sqrt(size)).exp()
            expected += powers / powers.sum() / pool.num_heads
        torch.testing.assert_close(map_.flatten(), expected[1:], rtol=1e-4, atol=1e-6)


def test_refusals(small_vit, tmp_path):
    tower, images = AdaptedVisionTransformer(build_image_tower(small_vit), (64, 32)), torch.randn(1, 3, 64, 32)
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        attention_maps(tower.train(), images)
    with pytest.raises(ValueError, match="A Identity has no attention"):
        attention_maps(nn.Identity().eval(), images)
    config = read_architecture(small_vit)
    config["vision_cfg"]["qk_norm"] = True
    path = tmp_path / "norms_inside.json"
    path.write_text(json.dumps(config))
    tower = AdaptedVisionTransformer(build_image_tower(str(path)), (64, 32)).eval()
    with pytest.raises(ValueError, match="attention of a CustomResidualAttentionBlock cannot be read"):
        attention_maps(tower, images)
