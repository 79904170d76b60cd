"""Two stages: prompts on cached image features, then the image encoder on images."""

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
        finish = self._take_over_texts if solver.MAX_EPOCHS == 0 else model.fix_text_features
        hook = PromptTuningHook(loader, images, model.shared_space_features, finish)
        tuning, own_hooks = self.build_prompt_tuning()
        return self.make_stage(
            "prompts",
            tuning,
            loader,
            solver,
            stage_hooks=[hook, *own_hooks],
            evaluated=False,
            checkpoint_period=cfg.STAGES.PROMPTS.CHECKPOINT_PERIOD,
        )

    def build_prompt_tuning(self) -> tuple[PromptTuning, list[Hook]]:
        """What stage 1 minimises, and the hooks that it needs; a method that adds a loss to it overrides this."""
        return PromptTuning(self.model.text, self.cfg.CLIP_REID.TEMPERATURE), []

    def _take_over_texts(self) -> None:
        """What ends a stage 1 of no epochs: the checkpoint that the run starts or goes on from brings the prompts, or
        the text features, of these identities. Raises ConfigError if it brings neither."""
        report = self.weights_report
        if not report.lacks_temporary and "text.prompts.table" not in report.not_loaded:
            self.model.fix_text_features()
        elif "text_features" not in report.not_loaded and bool(self.model.text_features.any()):
            self.model.drop_text()
        else:
            raise ConfigError(
                "STAGES.PROMPTS.SOLVER.MAX_EPOCHS 0 leaves stage 1 out, but MODEL.WEIGHTS "
                f"'{self.cfg.MODEL.WEIGHTS}' holds neither prompts nor text features of these identities."
            )

    def resume(self) -> None:
        super().resume()
        if self.stage_index > 0:
            self.model.drop_text()  # of a checkpoint that kept it
