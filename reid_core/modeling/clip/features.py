"""What the adapted CLIP image towers return beside `reid_core.structures.ImageFeatures`."""

from typing import NamedTuple

from torch import Tensor


class FeatureWidths(NamedTuple):
    """Widths of the three entries of `ImageFeatures`, read from the model."""

    penultimate: int
    last: int
    projected: int


class ImageTokens(NamedTuple):
    """The features of `ImageFeatures` at every position instead of one vector per image.

    ViT: each [B, 1 + h*w, width], the class token first, then the patches row by row. ResNet: `penultimate` and `last`
    are the maps of layer3 and layer4 as [B, h*w, width]; `projected` is the attention pool's [B, 1 + h*w, width].
    """

    penultimate: Tensor
    last: Tensor
    projected: Tensor
