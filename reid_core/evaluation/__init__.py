"""Evaluation: ranking metrics by the field's protocol, the registered evaluators, and the report."""

from reid_core.evaluation.build import build_evaluator
from reid_core.evaluation.given_distances import evaluate_distances
from reid_core.evaluation.random_gallery_evaluator import RandomGalleryEvaluator
from reid_core.evaluation.ranking import evaluate
from reid_core.evaluation.refinement import QueryExpansion, Reranking
from reid_core.evaluation.reid_evaluator import ReIDEvaluator
from reid_core.evaluation.report import write_report
from reid_core.evaluation.results import (
    CameraPairs,
    EntryKind,
    PerQueryResults,
    RankedLists,
    RankingResults,
    RocCurve,
    results_table,
    save_results,
)
from reid_core.evaluation.separation import sample_distances
from reid_core.evaluation.single_shot_evaluator import SingleShotEvaluator

__all__ = [
    "CameraPairs",
    "EntryKind",
    "PerQueryResults",
    "QueryExpansion",
    "RandomGalleryEvaluator",
    "RankedLists",
    "RankingResults",
    "ReIDEvaluator",
    "Reranking",
    "RocCurve",
    "SingleShotEvaluator",
    "build_evaluator",
    "evaluate",
    "evaluate_distances",
    "results_table",
    "sample_distances",
    "save_results",
    "write_report",
]
