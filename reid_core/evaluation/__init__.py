"""Evaluation: ranking metrics by the field's protocol, the registered evaluators, and the report."""

from reid_core.evaluation.build import build_evaluator
from reid_core.evaluation.random_gallery_evaluator import RandomGalleryEvaluator
from reid_core.evaluation.ranking import evaluate
from reid_core.evaluation.reid_evaluator import ReIDEvaluator
from reid_core.evaluation.report import write_report
from reid_core.evaluation.results import (
    EntryKind,
    PerQueryResults,
    RankedLists,
    RankingResults,
    results_table,
    save_results,
)
from reid_core.evaluation.separation import sample_distances

__all__ = [
    "EntryKind",
    "PerQueryResults",
    "RandomGalleryEvaluator",
    "RankedLists",
    "RankingResults",
    "ReIDEvaluator",
    "build_evaluator",
    "evaluate",
    "results_table",
    "sample_distances",
    "save_results",
    "write_report",
]
