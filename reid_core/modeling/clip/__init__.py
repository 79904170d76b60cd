"""CLIP over open_clip: the only package that imports it. Everything else of the toolkit asks here."""

import reid_core.utils.torchvision_import  # noqa: F401  # before open_clip, which imports torchvision
from reid_core.modeling.clip.attention import AttentionMaps, attention_maps
from reid_core.modeling.clip.blocks import KeysAndValues
from reid_core.modeling.clip.features import FeatureWidths, ImageTokens
from reid_core.modeling.clip.model import build_image_tower, parameter_shapes, read_architecture
from reid_core.modeling.clip.modified_resnet import AdaptedModifiedResNet
from reid_core.modeling.clip.positions import resize_positions
from reid_core.modeling.clip.template import TokenizedTemplate, build_tokenizer, tokenize_template
from reid_core.modeling.clip.text_encoder import CLIPTextEncoder, build_text_encoder
from reid_core.modeling.clip.vision_transformer import AdaptedVisionTransformer
from reid_core.modeling.clip.weights import load_clip_weights

__all__ = [
    "AdaptedModifiedResNet",
    "AdaptedVisionTransformer",
    "AttentionMaps",
    "CLIPTextEncoder",
    "FeatureWidths",
    "ImageTokens",
    "KeysAndValues",
    "TokenizedTemplate",
    "attention_maps",
    "build_image_tower",
    "build_text_encoder",
    "build_tokenizer",
    "load_clip_weights",
    "parameter_shapes",
    "read_architecture",
    "resize_positions",
    "tokenize_template",
]
