"""Hooks: what happens beside the step. One a file; a method adds its own through HOOK_REGISTRY or its stages."""

from reid_core.engine.hooks.base import Hook
from reid_core.engine.hooks.checkpoint import CheckpointHook
from reid_core.engine.hooks.evaluation import EvaluationHook
from reid_core.engine.hooks.interrupt import InterruptHook
from reid_core.engine.hooks.iteration_timer import IterationTimer
from reid_core.engine.hooks.learning_rate import LearningRateHook
from reid_core.engine.hooks.log_metrics import LogMetrics
from reid_core.engine.hooks.nan_guard import NaNGuard

__all__ = [
    "CheckpointHook",
    "EvaluationHook",
    "Hook",
    "InterruptHook",
    "IterationTimer",
    "LearningRateHook",
    "LogMetrics",
    "NaNGuard",
]
