"""What an evaluation returns, and how it is shown (a text table) and written to a file (plain numbers as JSON)."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from reid_core.utils.file_io import write_atomically


class EntryKind(IntEnum):
    """What an entry of a ranked list is to its query."""

    WRONG = 0  # another identity
    MATCH = 1  # the same identity, seen by another camera
    IGNORED = 2  # the same identity and camera: not part of the ranking, shown for orientation


@dataclass(frozen=True)
class RankedLists:
    """The nearest gallery images of each query, nearest first, equal distances in gallery order.

    positions: int64 [Q, K], in the gallery as it was passed. distances: float64 [Q, K], Euclidean or 1 - cosine.
    kinds: uint8 [Q, K], values of EntryKind.
    """

    positions: np.ndarray
    distances: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True)
class PerQueryResults:
    """Results of each query, in the order in which they were passed.

    average_precision, inverse_negative_penalty: float64 [Q], NaN for a query without a true match.
    first_match_rank: int64 [Q], from 1; 0 for a query without a true match.
    """

    average_precision: np.ndarray
    inverse_negative_penalty: np.ndarray
    first_match_rank: np.ndarray


@dataclass(frozen=True)
class RocCurve:
    """Points of the verification curve (see the module `roc` for what counts as positive), all exact.

    thresholds: float64 [T], falling, distances as in RankedLists; the first is infinite. false_positive_rate,
    true_positive_rate: float64 [T], shares of the matching pairs and of the others at that distance or beyond.
    tpr_at: the true positive rate at each asked false positive rate, or rather at the curve's closest.
    """

    thresholds: np.ndarray
    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    tpr_at: Mapping[float, float]
    num_matching_pairs: int
    num_other_pairs: int


@dataclass(frozen=True)
class CameraPairs:
    """Results of each query camera against each gallery camera, as shares in [0, 1].

    query_cameras: int64 [A]; gallery_cameras: int64 [B], both rising. mAP, rank1: float64 [A, B], NaN without a query
    that has a true match. num_valid_queries: int64 [A, B].
    """

    query_cameras: np.ndarray
    gallery_cameras: np.ndarray
    mAP: np.ndarray  # noqa: N815
    rank1: np.ndarray
    num_valid_queries: np.ndarray

    def table(self) -> str:
        """A text table: mAP and rank-1 in percent, a row for each query camera; a dash where nothing was counted."""

        def cell(precision: float, rank1: float) -> str:
            return "-" if math.isnan(precision) else f"{100 * precision:.1f} / {100 * rank1:.1f}"

        rows = zip(self.query_cameras, self.mAP, self.rank1, strict=True)
        body = [[camera, *map(cell, precisions, firsts)] for camera, precisions, firsts in rows]
        headers = ["mAP / rank-1, query camera", *map(str, self.gallery_cameras)]
        align = ("left", *("right" for _ in self.gallery_cameras))
        return tabulate(body, headers=headers, tablefmt="github", colalign=align, disable_numparse=True)


@dataclass(frozen=True)
class RankingResults:
    """Metrics of one query set against one gallery, as shares in [0, 1].

    mAP: mean average precision. mINP: mean inverse negative penalty. cmc: float64 [max_rank], cmc[r - 1] is the
    share of counted queries whose first true match has rank r or better. num_valid_queries: those with a true
    match, over which all means are taken. per_query, ranked_lists, roc, camera_pairs: None unless asked for.
    """

    mAP: float  # noqa: N815 - the field's name for it
    mINP: float  # noqa: N815
    cmc: np.ndarray
    num_queries: int
    num_valid_queries: int
    per_query: PerQueryResults | None = None
    ranked_lists: RankedLists | None = None
    roc: RocCurve | None = None
    camera_pairs: CameraPairs | None = None

    def percentages(self, ranks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
        """{"mAP", "mINP", "rank1", ...} in percent, the CMC at the given ranks; with a ROC also "TPR@FPR=1e-3", ...

        Raises ValueError for a rank outside 1..max_rank.
        """
        for rank in ranks:
            if not 1 <= rank <= len(self.cmc):
                raise ValueError(f"The CMC was computed for ranks 1 to {len(self.cmc)}; rank {rank} is not among them.")
        table = {"mAP": 100 * self.mAP, "mINP": 100 * self.mINP}
        table |= {f"rank{rank}": 100 * float(self.cmc[rank - 1]) for rank in ranks}
        rates = self.roc.tpr_at if self.roc else {}
        return table | {f"TPR@FPR={_scientific(asked)}": 100 * rate for asked, rate in rates.items()}


def results_table(results: Mapping[str, Mapping[str, Any]], label: str = "dataset") -> str:
    """A text table of results by name (of dataset or model, as `label` says), numbers with one decimal: one row each,
    and one for each of its variants (see `variant_rows`).

    Columns are the scalars of all rows in the order of their appearance; what a row lacks is a dash, what is no
    number (per-query results) is left out.
    """
    results = variant_rows(results)
    columns = scalar_columns(results)
    body = [[name, *(f"{row[key]:.1f}" if key in row else "-" for key in columns)] for name, row in results.items()]
    align = ("left", *("right" for _ in columns))
    return tabulate(body, headers=[label, *columns], tablefmt="github", colalign=align, disable_numparse=True)


def save_results(path: str | os.PathLike, results: Mapping[str, Any]) -> None:
    """Write (nested) results as JSON: arrays become lists, NaN and infinity null. The file appears whole or not."""
    write_atomically(Path(path), (json.dumps(_plain(results), indent=2, allow_nan=False) + "\n").encode())


def variant_rows(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows by name with those of variants ("reranked/mAP") taken out, as rows "name, reranked" behind their own."""
    rows: dict[str, dict[str, Any]] = {}
    for name, row in results.items():
        rows[name] = {}
        for key, value in row.items():
            variant, _, metric = key.rpartition("/")
            rows.setdefault(f"{name}, {variant}" if variant else name, {})[metric] = value
    return rows


def scalar_columns(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the numbers in the rows, in the order of their appearance."""
    return list(
        dict.fromkeys(
            name
            for row in results.values()
            for name, value in row.items()
            if isinstance(value, int | float | np.number) and not isinstance(value, bool)
        )
    )


def _scientific(value: float) -> str:
    return np.format_float_scientific(value, trim="-", exp_digits=1)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
