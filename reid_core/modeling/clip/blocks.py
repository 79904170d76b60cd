"""open_clip's residual attention block, computed for what is read of it: some of its tokens, behind a known prefix."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn

_QUICK_GELU = 1.702  # QuickGELU(x) = x * sigmoid(1.702 * x)


class KeysAndValues(NamedTuple):
    """What attention reads of tokens that were computed before: each [1, heads, P, width / heads]."""

    keys: Tensor
    values: Tensor


def run_block(block: nn.Module, tokens: Tensor, read: slice | None = None) -> Tensor:
    """One residual attention block with attention among all tokens: [B, N, D] -> [B, N, D], or its tokens `read`."""
    if not isinstance(block, ResidualAttentionBlock):  # open_clip's block with more norms and scales inside
        tokens = block(tokens)
        return tokens if read is None else tokens[:, read]
    return _finish(block, tokens, read, *_project(block.attn, block.ln_1(tokens), read), mask=None)


def run_causal_block(
    block: ResidualAttentionBlock, tokens: Tensor, prefix: KeysAndValues | None = None, read: slice | None = None
) -> tuple[Tensor, KeysAndValues]:
    """One block in which a token attends to itself, to those before it and to `prefix`, which stands before all.

    tokens: [B, N, D]. Returns its tokens `read` (all without it), and the keys and values of `tokens`.
    """
    query, key, value = _project(block.attn, block.ln_1(tokens), read)
    own = KeysAndValues(key, value)
    known = 0
    if prefix is not None:
        known = prefix.keys.shape[2]
        key, value = (
            torch.cat([before.to(now.dtype).expand(len(now), -1, -1, -1), now], dim=2)
            for before, now in zip(prefix, own, strict=True)
        )
    places = torch.arange(tokens.shape[1], device=tokens.device)
    if read is not None:
        places = places[read]
    mask = torch.arange(key.shape[2], device=tokens.device) <= (known + places)[:, None]
    return _finish(block, tokens, read, query, key, value, mask), own


def attention_weights(block: nn.Module, tokens: Tensor, read: slice | None = None) -> Tensor:
    """What the tokens `read` (all without it) attend to in a block, float32 [B, heads, n, N]; each row sums to 1.

    tokens: [B, N, D], those that enter the block. Raises ValueError for open_clip's blocks with more norms inside.
    """
    if not isinstance(block, ResidualAttentionBlock):
        raise ValueError(
            f"The attention of a {type(block).__name__} cannot be read: it scales or norms inside of its attention. "
            "Choose an architecture without qk_norm, scaled cosine attention and their like."
        )
    query, key, _ = _project(block.attn, block.ln_1(tokens), read)
    return (query.float() * query.shape[-1] ** -0.5 @ key.float().transpose(2, 3)).softmax(dim=-1)


def _finish(
    block: ResidualAttentionBlock,
    tokens: Tensor,
    read: slice | None,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """Attention, its residual and the MLP. query: [B, heads, n, d]; key, value: [B, heads, N, d]; mask: bool [n, N]."""
    mixed = _attend(query, key, value, mask).transpose(1, 2).flatten(2)
    attended = block.attn.out_proj(mixed)
    tokens = (tokens if read is None else tokens[:, read]) + block.ls_1(attended)
    if isinstance(block.mlp.gelu, QuickGELU):
        return _add_quick_gelu_mlp(block, tokens)
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def _project(attention: nn.MultiheadAttention, tokens: Tensor, read: slice | None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of the tokens `read`, keys and values of all: [B, heads, n or N, d].

    With the module's weights, not its forward pass: that has an inference path which is many times slower than
    training in bfloat16 on a CPU.
    """
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    width = tokens.shape[-1]
    heads = (attention.num_heads, width // attention.num_heads)
    if read is None:
        projected = F.linear(tokens, weight, bias).unflatten(-1, (3, *heads)).unbind(2)
    else:
        query_weight, other_weights = weight.split([width, 2 * width])
        query_bias, other_biases = bias.split([width, 2 * width])
        query = F.linear(tokens[:, read], query_weight, query_bias).unflatten(-1, heads)
        projected = (query, *F.linear(tokens, other_weights, other_biases).unflatten(-1, (2, *heads)).unbind(2))
    query, key, value = (part.transpose(1, 2) for part in projected)
    return query, key, value


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention, [B, heads, n, d]. In 16 bits on a CPU torch's fused kernel is several times slower
    than the products that it is made of, above all in its backward pass; elsewhere it is the fastest way."""
    if query.device.type == "cpu" and query.dtype != torch.float32:
        scores = query * query.shape[-1] ** -0.5 @ key.transpose(2, 3)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(dim=-1).to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _add_quick_gelu_mlp(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """tokens + MLP(tokens), QuickGELU in one pass over the hidden layer, its largest tensor, instead of three.

    x * sigmoid(a * x) = silu(a * x) / a: the inner factor goes into the norm's weights and the first bias, the outer
    one into the addition, so that neither costs anything.
    """
    norm, inner, outer = block.ln_2, block.mlp.c_fc, block.mlp.c_proj
    scaled = F.layer_norm(
        tokens, norm.normalized_shape, _QUICK_GELU * norm.weight, _QUICK_GELU * norm.bias, norm.eps
    ).to(tokens.dtype)
    hidden = F.silu(F.linear(scaled, inner.weight, _QUICK_GELU * inner.bias))
    return tokens.add(block.ls_2(F.linear(hidden, outer.weight, _QUICK_GELU * outer.bias)), alpha=1 / _QUICK_GELU)
