"""CLIP-ReID: a learned text for every identity, then an image encoder trained towards it (arXiv 2211.13977).

Registers: the meta-architecture `CLIPReID`, the trainer `CLIPReIDTrainer` with its two stages, and the converter of the
authors' checkpoints. The baseline without text is the core's `Baseline` with the configs `*_baseline.yml`.
"""

from projects.CLIP_ReID.config import add_config
from projects.CLIP_ReID.converter import CLIPReIDConverter
from projects.CLIP_ReID.model import CLIPReID, build_text_side
from projects.CLIP_ReID.prompt_stage import PromptTuning, PromptTuningHook
from projects.CLIP_ReID.trainer import CLIPReIDTrainer

__all__ = [
    "CLIPReID",
    "CLIPReIDConverter",
    "CLIPReIDTrainer",
    "PromptTuning",
    "PromptTuningHook",
    "add_config",
    "build_text_side",
]
