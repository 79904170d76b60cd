"""Sets the learning rates of an epoch."""

from reid_core.engine.hooks.base import Hook


class LearningRateHook(Hook):
    """Gives every parameter group its rate from the stage's schedule; the rate is a function of the epoch alone."""

    def before_stage(self) -> None:
        self._set_rates()  # a run that goes on inside an epoch sees no before_epoch

    def before_epoch(self) -> None:
        self._set_rates()

    def _set_rates(self) -> None:
        stage = self.trainer.stage
        for group in stage.step.optimizer.param_groups:
            group["lr"] = stage.schedule(self.trainer.epoch + stage.schedule_offset, group["base_lr"])

    def before_step(self) -> None:
        self.trainer.metrics.put({"lr": self.trainer.stage.step.optimizer.param_groups[0]["lr"]})
