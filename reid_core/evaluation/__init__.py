"""Evaluation: ranking metrics by the field's protocol, the registered evaluator, and the report."""

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
    "RankedLists",
    "RankingResults",
    "ReIDEvaluator",
    "evaluate",
    "results_table",
    "sample_distances",
    "save_results",
    "write_report",
]
