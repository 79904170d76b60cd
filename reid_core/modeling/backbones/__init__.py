"""Backbones: image encoders that return `ImageFeatures`. Importing this package registers them."""

from reid_core.modeling.backbones.clip_image import CLIPImageBackbone

__all__ = ["CLIPImageBackbone"]
