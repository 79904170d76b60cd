"""Two stages: prompts on cached image features, then the image encoder on images."""

from collections.abc import Callable

from projects.CLIP_ReID.prompt_stage import PromptTuning, PromptTuningHook
from reid_core.config import ConfigError
from reid_core.data.feature_loader import FeatureLoader
from reid_core.data.loader import build_test_loader
from reid_core.engine.default_trainer import DefaultTrainer
from reid_core.engine.hooks import Hook
from reid_core.engine.stages import Stage
from reid_core.registry import TRAINER_REGISTRY
from reid_core.utils import comm


@TRAINER_REGISTRY.register()
class CLIPReIDTrainer(DefaultTrainer):
    """Stage "prompts", configured by STAGES.PROMPTS, before the usual one, configured by SOLVER."""

    def build_stages(self) -> list[Stage]:
        return [self.build_prompt_stage(), *super().build_stages()]

    def build_prompt_stage(self) -> Stage:
        cfg, model = self.cfg, self.model
        solver = self.stage_solver("PROMPTS")
        loader = FeatureLoader(
            self.training_set.targets, cfg.STAGES.PROMPTS.BATCH_SIZE, solver.ITERATIONS_PER_EPOCH, cfg.SEED
        )
        images = build_test_loader(cfg, self.training_set.images, comm.rank(), comm.world_size())
        finish = model.fix_text_features if solver.MAX_EPOCHS > 0 else self._take_over_texts()
        hook = PromptTuningHook(loader, images, model.shared_space_features, finish)
        tuning, own_hooks = self.build_prompt_tuning()
        return self.make_stage("prompts", tuning, loader, solver, stage_hooks=[hook, *own_hooks], evaluated=False)

    def build_prompt_tuning(self) -> tuple[PromptTuning, list[Hook]]:
        """What stage 1 minimises, and the hooks that it needs; a method that adds a loss to it overrides this."""
        return PromptTuning(self.model.text, self.cfg.CLIP_REID.TEMPERATURE), []

    def _take_over_texts(self) -> Callable[[], None]:
        """What ends a stage 1 of no epochs: MODEL.WEIGHTS must bring prompts, or text features, of these identities."""
        report = self.weights_report
        if not report.lacks_temporary and "text.prompts.table" not in report.left_out:
            return self.model.fix_text_features
        if self.cfg.MODEL.WEIGHTS and "text_features" not in report.left_out and bool(self.model.text_features.any()):
            return self.model.release_temporary
        raise ConfigError(
            "STAGES.PROMPTS.SOLVER.MAX_EPOCHS 0 leaves stage 1 out, but MODEL.WEIGHTS "
            f"'{self.cfg.MODEL.WEIGHTS}' holds neither prompts nor text features of these identities."
        )

    def resume(self) -> None:
        super().resume()
        if self.stage_index > 0 and not self.model.keep_text:
            self.model.release_temporary()  # of a checkpoint that kept it
