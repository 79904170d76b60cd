"""Where an image encoder looks: attention of the token that becomes the feature over the places of the image."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from reid_core.modeling.clip.blocks import attention_weights
from reid_core.modeling.clip.modified_resnet import AdaptedModifiedResNet
from reid_core.modeling.clip.vision_transformer import AdaptedVisionTransformer


class AttentionMaps(NamedTuple):
    """Shares of the attention of the feature's token, float32 [B, h, w] each; with its share in itself they sum to 1.

    rollout: through all blocks. last: in the last block alone, averaged over its heads.
    """

    rollout: Tensor
    last: Tensor


@torch.no_grad()
def attention_maps(tower: nn.Module, images: Tensor, class_offset: Tensor | None = None) -> AttentionMaps:
    """Attention rollout (Abnar & Zuidema 2020, section 3) and the last block's attention, recomputed from the weights.

    Rollout: the product over the blocks, the last one on the left, of (A + I) / 2 with A the mean of the heads and I
    the residual connection, rows normalised; its row of the class token. A ModifiedResNet attends once, in its
    attention pool, which has no residual connection: both maps are the weights of the pool's first token.

    tower: an adapted tower in evaluation mode. images: float [B, 3, H, W], normalised. class_offset: as in the ViT's
    forward pass. Raises ValueError in training mode and for towers without such attention.
    """
    if tower.training:
        raise ValueError("Attention maps are those of evaluation: call eval() on the model first.")
    if isinstance(tower, AdaptedModifiedResNet):
        pooled = _on_grid(tower.pool_weights(images).mean(dim=1), tower.grid)
        return AttentionMaps(pooled, pooled)
    if not isinstance(tower, AdaptedVisionTransformer):
        raise ValueError(
            f"A {type(tower).__name__} has no attention that can be shown; choose CLIP's ViT or ModifiedResNet."
        )
    rollout = None
    for block, tokens in tower.block_inputs(images, class_offset):
        attention = attention_weights(block, tokens).mean(dim=1)
        passed = attention + torch.eye(attention.shape[-1], device=attention.device)
        passed = passed / passed.sum(dim=-1, keepdim=True)
        rollout = passed if rollout is None else passed @ rollout
    return AttentionMaps(_on_grid(rollout[:, 0], tower.grid), _on_grid(attention[:, 0], tower.grid))


def _on_grid(shares: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, 1 + h*w] -> [B, h, w], without the first token's own share."""
    return shares[:, 1:].unflatten(1, grid)
