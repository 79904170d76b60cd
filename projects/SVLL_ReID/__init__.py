"""SVLL-ReID: identity prompts and image features trained with self-supervision beside it (arXiv 2407.20647)."""

from projects.SVLL_ReID.config import add_config
from projects.SVLL_ReID.prompt_augmentation import PROMPT_AUGMENTATION_REGISTRY

__all__ = ["PROMPT_AUGMENTATION_REGISTRY", "add_config"]
