"""Evaluates the model while it trains."""

from collections.abc import Callable

from reid_core.engine.hooks.base import Hook


class EvaluationHook(Hook):
    """Calls `evaluate() -> results` every `period` epochs of a stage that is evaluated, and after the last epoch of all
    (0: only then).

    The results go to the metrics and to every hook's `after_evaluation`; must come before the checkpoint hook, so that
    a checkpoint knows its own results.
    """

    closes = 1

    def __init__(self, evaluate: Callable[[], dict[str, float]], period: int):
        self.evaluate, self.period = evaluate, period

    def after_epoch(self) -> None:
        trainer = self.trainer
        is_last = trainer.epoch == trainer.stage.epochs and trainer.stage is trainer.stages[-1]
        is_due = trainer.stage.evaluated and self.period > 0 and trainer.epoch % self.period == 0
        if is_last or is_due:
            trainer.call("after_evaluation", self.evaluate())
