"""SVLL-ReID: CLIP-ReID with self-supervision of the prompts and of the images (arXiv 2407.20647).

Registers: the meta-architecture `SVLLReID`, the trainer `SVLLReIDTrainer` with CLIP-ReID's two stages, and the prompt
augmentations `mask`, `swap` and `mix`. `figures.py` draws the paper's pictures.
"""

from projects.SVLL_ReID.config import add_config
from projects.SVLL_ReID.converter import SVLLReIDConverter
from projects.SVLL_ReID.language_stage import LanguageSupervisedPromptTuning, PromptAugmenter
from projects.SVLL_ReID.model import SVLLReID
from projects.SVLL_ReID.prompt_augmentation import PROMPT_AUGMENTATION_REGISTRY
from projects.SVLL_ReID.trainer import SVLLReIDTrainer

REQUIRES = ["CLIP_ReID"]

__all__ = [
    "PROMPT_AUGMENTATION_REGISTRY",
    "LanguageSupervisedPromptTuning",
    "PromptAugmenter",
    "SVLLReID",
    "SVLLReIDConverter",
    "SVLLReIDTrainer",
    "add_config",
]
