"""open_clip's ModifiedResNet with stride 1 in its last stage, rectangular input and three features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core.modeling.clip.features import FeatureWidths, ImageTokens
from reid_core.modeling.clip.positions import check_input_size, resize_parameter
from reid_core.structures import ImageFeatures

_STEM = ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "act3", "avgpool")


class AdaptedModifiedResNet(nn.Module):
    """The modules of an open_clip `ModifiedResNet` under their own names; layer4 keeps the resolution of layer3.

    tower: open_clip's tower; it gives up its modules and is not to be used afterwards. input_size: (height, width) in
    pixels; the attention pool's position table is resized to the map of layer4, a sixteenth of the input.
    Raises ValueError for an input of less than 16 pixels on a side.
    """

    position_table_name = "attnpool.positional_embedding"

    def __init__(self, tower: nn.Module, input_size: Sequence[int]) -> None:
        super().__init__()
        height, width = self.input_size = (int(input_size[0]), int(input_size[1]))
        if min(height, width) < 16:
            raise ValueError(f"Input {height}x{width} is too small: a ModifiedResNet needs 16 pixels on each side.")
        self.native_grid = (tower.image_size // 32, tower.image_size // 32)
        self.grid = (_map_side(height), _map_side(width))

        for name in (*_STEM, "layer1", "layer2", "layer3", "layer4", "attnpool"):
            self.add_module(name, getattr(tower, name))
        first = self.layer4[0]  # all convolutions have stride 1; average pools before them take the steps
        first.avgpool = nn.Identity()
        first.downsample[0] = nn.Identity()
        self.attnpool.positional_embedding = resize_parameter(
            self.attnpool.positional_embedding, self.native_grid, self.grid
        )
        self.widths = FeatureWidths(
            penultimate=self.layer3[-1].conv3.out_channels,
            last=self.layer4[-1].conv3.out_channels,
            projected=self.attnpool.c_proj.out_features,
        )

    def forward(self, images: Tensor) -> ImageFeatures:
        """Spatial means of the maps of layer3 and layer4, and the attention pool's first token.

        images: float [B, 3, H, W]. The pool is computed for its first token only, as nothing reads the others.
        """
        layer3, layer4 = self._maps(images)
        pooled = self._attention_pool(layer4, first_only=True)[:, 0]
        return ImageFeatures(layer3.mean(dim=(2, 3)), layer4.mean(dim=(2, 3)), pooled)

    def forward_tokens(self, images: Tensor) -> ImageTokens:
        """Both maps as [B, h*w, width] and the attention pool's tokens [B, 1 + h*w, width]."""
        layer3, layer4 = self._maps(images)
        pooled = self._attention_pool(layer4, first_only=False)
        return ImageTokens(layer3.flatten(2).transpose(1, 2), layer4.flatten(2).transpose(1, 2), pooled)

    def pool_weights(self, images: Tensor) -> Tensor:
        """What the attention pool's first token attends to, float32 [B, heads, 1 + h*w]; each row sums to 1."""
        _, layer4 = self._maps(images)
        query, key, _ = self._pool_projections(layer4, first_only=True)
        return (query.float() * query.shape[-1] ** -0.5 @ key.float().transpose(2, 3)).softmax(dim=-1)[:, :, 0]

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        check_input_size(images, self.input_size)
        hidden = images
        for name in _STEM:
            hidden = getattr(self, name)(hidden)
        layer3 = self.layer3(self.layer2(self.layer1(hidden)))
        return layer3, self.layer4(layer3)

    def _attention_pool(self, feature_map: Tensor, first_only: bool) -> Tensor:
        """Attention over the map's mean (the first token) and its positions, [B, 1 or 1 + h*w, projected width]."""
        mixed = F.scaled_dot_product_attention(*self._pool_projections(feature_map, first_only))
        return self.attnpool.c_proj(mixed.transpose(1, 2).flatten(2))

    def _pool_projections(self, feature_map: Tensor, first_only: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the first token or all, keys and values of all: [B, heads, 1 or 1 + h*w, d]."""
        pool = self.attnpool
        tokens = feature_map.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        tokens = tokens + pool.positional_embedding.to(tokens.dtype)
        query = pool.q_proj(tokens[:, :1] if first_only else tokens)
        query, key, value = (
            projected.unflatten(2, (pool.num_heads, -1)).transpose(1, 2)
            for projected in (query, pool.k_proj(tokens), pool.v_proj(tokens))
        )
        return query, key, value


def _map_side(pixels: int) -> int:
    """Side of the maps of layer3 and layer4: one padded stride-2 convolution, then three average pools that floor."""
    return (pixels + 1) // 2 // 8
