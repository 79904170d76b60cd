"""Curves of several runs over each other: one plot for each metric, one colour for each run."""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reid_core.data.datasets.listing import printable
from reid_core.evaluation.plot_style import DASHES, SERIES, TEXT, as_png, dress_axes, legend_below
from reid_core.evaluation.report_figures import spoken_name
from reid_core.utils.writers import read_json_lines

METRICS = ("mAP", "rank1", "total_loss")
"""Drawn where nothing else is asked for, as far as a run has them."""
OVER = {"epoch": "epoch", "step": "iteration"}
"""What the curves can run over, and the name of it in a run's rows."""
MAX_RUNS = len(SERIES) * len(DASHES) // 2
"""Runs that differ in colour or dashes."""

Row = Mapping[str, Any]
_PLOT, _FOOT, _COLUMNS = (4.4, 3.0), 0.3, 3  # inches of a plot and of a line of the legend; plots in a row


def read_runs(paths: Sequence[Path]) -> dict[str, list[dict]]:
    """The rows of runs by name. paths: OUTPUT_DIRs, or their metrics.jsonl.

    A run is named by its folder, with as many folders above it as tell the runs apart. Raises FileNotFoundError where
    there is no metrics.jsonl, ValueError for an empty one and for a run that is named twice.
    """
    runs = {}
    files = [path / "metrics.jsonl" if path.is_dir() else path for path in map(Path, paths)]
    for name, file in zip(_names([file.absolute().parent for file in files]), files, strict=True):
        if not file.is_file():
            raise FileNotFoundError(f"{printable(file)} does not exist: name the OUTPUT_DIR of a run that has trained.")
        runs[name] = read_json_lines(file)
        if not runs[name]:
            raise ValueError(f"{printable(file)} is empty: the run has logged nothing yet.")
    return runs


def run_curves(runs: Mapping[str, Sequence[Row]], metrics: Sequence[str] = (), over: str = "epoch") -> bytes:
    """A PNG with a plot for each metric; the same bytes each time.

    runs: rows by name, as `read_runs` gives them. metrics: names in the rows ("mAP", "rank1", "loss_id"); () for those
    of METRICS that some run has. over: "epoch": what a run logged in one epoch is averaged, and of runs in several
    stages the last one with the metric is drawn; "step": every row of all stages, by the steps done in all.
    Raises ValueError for a metric that no run has, too many runs, and another word for `over`.
    """
    if over not in OVER:
        raise ValueError(f"Curves run over {' or '.join(OVER)}, not over '{over}'.")
    if not runs or len(runs) > MAX_RUNS:
        raise ValueError(f"{len(runs)} runs cannot be drawn over each other; choose 1 to {MAX_RUNS}.")
    known = _metrics_of(runs)
    metrics = list(dict.fromkeys(metrics)) or [metric for metric in METRICS if metric in known] or known[:1]
    for metric in metrics:
        if metric not in known:
            lower = {name.lower(): name for name in known}
            near = difflib.get_close_matches(metric.lower(), lower, n=1)
            hint = f" Did you mean '{lower[near[0]]}'?" if near else ""
            raise ValueError(f"No run has a metric '{metric}'.{hint} They have: {', '.join(known) or 'none'}.")
    columns = min(_COLUMNS, len(metrics))
    rows, lines = math.ceil(len(metrics) / columns), math.ceil(len(runs) / columns)
    figure = Figure(figsize=(columns * _PLOT[0], rows * _PLOT[1] + lines * _FOOT), layout="constrained")
    for place, metric in enumerate(metrics, start=1):
        _draw(figure.add_subplot(rows, columns, place), runs, metric, over)
    legend_below(figure, columns)
    return as_png(figure)


def points_of(rows: Sequence[Row], metric: str, over: str) -> list[tuple[float, float]]:
    """The places of a run's curve, by rising x; see `run_curves`. What is not finite is left out."""
    key = OVER[over]
    rows = [row for row in rows if _is_number(row.get(metric)) and _is_number(row.get(key))]
    if over == "step":
        return [(row[key], row[metric]) for row in rows]
    last_stage = rows[-1].get("stage") if rows else None
    by_epoch: dict[float, list[float]] = {}
    for row in rows:
        if row.get("stage") == last_stage:
            by_epoch.setdefault(row[key], []).append(row[metric])
    return [(epoch, sum(values) / len(values)) for epoch, values in sorted(by_epoch.items())]


def _draw(axes: Axes, runs: Mapping[str, Sequence[Row]], metric: str, over: str) -> None:
    """A run's colour and dashes are the same in every plot."""
    dress_axes(axes, over, spoken_name(metric))
    lacking = []
    for number, (name, rows) in enumerate(runs.items()):
        points = points_of(rows, metric, over)
        dash = DASHES[(number + number // len(SERIES)) % len(DASHES)]
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            label=_shown(name),
            color=SERIES[number % len(SERIES)],
            linestyle=dash,
            linewidth=1.8,
            marker="o" if len(points) <= 30 else None,
            markersize=3.5,
        )
        lacking += [] if points else [_shown(name)]
    if lacking:
        axes.set_title(f"not logged by {', '.join(lacking)}", fontsize=8, color=TEXT, parse_math=False)
    if min(axes.dataLim.y0, 0) == 0:  # curves of what is never negative start at the axis
        axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _metrics_of(runs: Mapping[str, Sequence[Row]]) -> list[str]:
    """Names of the numbers that the runs have logged, in the order of their appearance."""
    found = dict.fromkeys(
        name for rows in runs.values() for row in rows for name, value in row.items() if _is_number(value)
    )
    return [name for name in found if name not in OVER.values()]


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    twice = sorted({printable(folder) for folder in folders if folders.count(folder) > 1})
    if twice:
        raise ValueError(f"A run is named twice: {', '.join(twice)}.")
    for length in range(1, 1 + max((len(folder.parts) for folder in folders), default=0)):
        names = [printable(Path(*folder.parts[-length:])) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return []


def _shown(name: str) -> str:
    """The name in a legend: not too long, and with no sign that matplotlib reads as a formula or as "no name"."""
    name = name if len(name) <= 44 else f"…{name[-43:]}"
    return name.lstrip("_").replace("$", r"\$") or "run"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
