"""The evaluator of a dataset: the one that the config names, or the one that the dataset's protocol asks for."""

from typing import Any

from reid_core.evaluation.reid_evaluator import ReIDEvaluator
from reid_core.registry import EVALUATOR_REGISTRY

AUTO = "auto"


def build_evaluator(cfg: Any, dataset: Any) -> ReIDEvaluator:
    """The evaluator TEST.EVALUATOR for the dataset; with "auto" that of its attribute `evaluator`, "" being the usual
    one. Raises LookupError, naming what is registered, for an unknown name."""
    name = cfg.TEST.EVALUATOR
    if name == AUTO:
        name = dataset.evaluator or ReIDEvaluator.__name__
    return EVALUATOR_REGISTRY.build(name, cfg, dataset=dataset)
