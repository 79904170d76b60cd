"""open_clip's vision transformer with rectangular input, overlapping patches and features at the class token."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reid_core.modeling.clip.blocks import run_block
from reid_core.modeling.clip.features import FeatureWidths, ImageTokens
from reid_core.modeling.clip.positions import check_input_size, resize_parameter
from reid_core.structures import ImageFeatures

_CLASS_TOKEN = slice(0, 1)


class AdaptedVisionTransformer(nn.Module):
    """The modules of an open_clip `VisionTransformer` under their own names, with a forward pass of ours.

    tower: open_clip's tower; it gives up its modules and is not to be used afterwards. input_size: (height, width) in
    pixels. patch_stride: step between patches in pixels, 0 for the patch size. The position table is resized to the
    grid that follows. gradient_checkpointing: recompute each block in the backward pass.

    Raises ValueError for a stride that skips pixels, an input smaller than a patch, and towers that have no feature
    at a class token (average or attentional pooling).
    """

    position_table_name = "positional_embedding"

    def __init__(
        self,
        tower: nn.Module,
        input_size: Sequence[int],
        patch_stride: int = 0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if tower.attn_pool is not None or tower.pool_type != "tok":
            pooling = "attentional" if tower.attn_pool is not None else tower.pool_type
            raise ValueError(f"This ViT pools its tokens ('{pooling}'); only towers that read a class token fit.")
        height, width = self.input_size = (int(input_size[0]), int(input_size[1]))
        patch_height, patch_width = tower.patch_size
        stride_y, stride_x = (patch_stride, patch_stride) if patch_stride else tower.patch_size
        if not (0 < stride_y <= patch_height and 0 < stride_x <= patch_width):
            raise ValueError(
                f"Patch stride {patch_stride} does not fit patches of {patch_height}x{patch_width} pixels; "
                f"choose 1 to {min(tower.patch_size)}, or 0 for no overlap."
            )
        if height < patch_height or width < patch_width:
            raise ValueError(f"Input {height}x{width} is smaller than a patch of {patch_height}x{patch_width} pixels.")
        self.native_grid = tuple(tower.grid_size)
        self.grid = ((height - patch_height) // stride_y + 1, (width - patch_width) // stride_x + 1)
        self.gradient_checkpointing = gradient_checkpointing

        self.class_embedding = tower.class_embedding
        self.positional_embedding = resize_parameter(tower.positional_embedding, self.native_grid, self.grid)
        self.proj = tower.proj
        self.conv1 = tower.conv1
        self.conv1.stride = (stride_y, stride_x)
        self.patch_dropout = tower.patch_dropout
        self.ln_pre = tower.ln_pre
        self.transformer = tower.transformer
        self.ln_post = tower.ln_post
        embed_width, projected_width = self.proj.shape
        self.widths = FeatureWidths(embed_width, embed_width, projected_width)

    def forward(self, images: Tensor, class_offset: Tensor | None = None) -> ImageFeatures:
        """Features at the class token. images: float [B, 3, H, W]. class_offset: [B, width], added to the class token
        before its position. The last block is computed for the class token only, as nothing reads its other tokens.
        """
        tokens = self._run_blocks(self._embed(images, class_offset), self.transformer.resblocks[:-1])
        last = self._run_block(self.transformer.resblocks[-1], tokens, _CLASS_TOKEN)[:, 0]
        last = self.ln_post(last)
        return ImageFeatures(tokens[:, 0], last, last @ self.proj)

    def forward_tokens(self, images: Tensor, class_offset: Tensor | None = None) -> ImageTokens:
        """The same features for every token, [B, 1 + h*w, width]."""
        penultimate = self._run_blocks(self._embed(images, class_offset), self.transformer.resblocks[:-1])
        last = self.ln_post(self._run_block(self.transformer.resblocks[-1], penultimate))
        return ImageTokens(penultimate, last, last @ self.proj)

    def block_inputs(self, images: Tensor, class_offset: Tensor | None = None) -> Iterator[tuple[nn.Module, Tensor]]:
        """Every block in order with the tokens that enter it, [B, 1 + h*w, width]: what they attend to follows."""
        tokens, blocks = self._embed(images, class_offset), self.transformer.resblocks
        yield blocks[0], tokens
        for before, block in pairwise(blocks):
            tokens = self._run_block(before, tokens)
            yield block, tokens

    def _embed(self, images: Tensor, class_offset: Tensor | None) -> Tensor:
        """Tokens [B, 1 + h*w, width] after the first norm."""
        check_input_size(images, self.input_size)
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(images), -1)
        if class_offset is not None:
            first = first + class_offset
        tokens = torch.cat([first[:, None].to(patches.dtype), patches], dim=1)
        tokens = tokens + self.positional_embedding.to(patches.dtype)
        return self.ln_pre(self.patch_dropout(tokens))

    def _run_blocks(self, tokens: Tensor, blocks: nn.ModuleList) -> Tensor:
        for block in blocks:
            tokens = self._run_block(block, tokens)
        return tokens

    def _run_block(self, block: nn.Module, tokens: Tensor, read: slice | None = None) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(run_block, block, tokens, read, use_reentrant=False)
        return run_block(block, tokens, read)
