"""CLIP-ReID's two stages with the language term in the first; the vision term is the model's."""

from projects.CLIP_ReID import CLIPReIDTrainer, PromptTuning
from projects.SVLL_ReID.language_stage import LanguageSupervisedPromptTuning, PromptAugmenter
from reid_core.engine.hooks import Hook
from reid_core.registry import TRAINER_REGISTRY


@TRAINER_REGISTRY.register()
class SVLLReIDTrainer(CLIPReIDTrainer):
    """Stage "prompts" with SVLL.LANGUAGE_TERM, stage "train" with SVLL.VISION_TERM."""

    def build_prompt_tuning(self) -> tuple[PromptTuning, list[Hook]]:
        cfg, options = self.cfg, self.cfg.SVLL
        if not options.LANGUAGE_TERM:
            return super().build_prompt_tuning()
        augmenter = PromptAugmenter(
            options.PROMPT_AUGMENTATION, options.PROMPT_AUGMENTATION_SCALE, cfg.SEED, self.device
        )
        tuning = LanguageSupervisedPromptTuning(
            self.model.text,
            self.model.text_projector,
            augmenter,
            cfg.CLIP_REID.TEMPERATURE,
            options.LANGUAGE_WEIGHT,
            options.TEMPERATURE,
        )
        return tuning, [augmenter]
