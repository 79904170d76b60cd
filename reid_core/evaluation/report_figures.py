"""The report's curves, drawn by matplotlib as SVG that takes its colours from the page (light, dark, print).

Colours are written as CSS variables of the page (`report_page.py`): matplotlib draws with placeholder colours, which
are replaced in the finished SVG.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_TEXT, _GRID = "#010101", "#020202"
_SERIES = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306")
_CSS = {_TEXT: "currentColor", _GRID: "var(--line)"} | {c: f"var(--series-{i + 1})" for i, c in enumerate(_SERIES)}
_DASHES = ("-", "--", "-.", ":")  # so that curves differ without colour, too


def loss_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """SVG of every loss over training steps; "" if the history has none."""
    names = _names(history, lambda name: "loss" in name)
    names.sort(key=lambda name: name != "total_loss")  # the sum first: it gets the first colour
    return _curves(history, names, "iteration", "step", "loss", "Training losses over steps")


def learning_rate_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """SVG of the learning rate over training steps; "" if the history has none."""
    return _curves(history, _names(history, lambda name: name == "lr"), "iteration", "step", "learning rate",
                   "Learning rate over steps")


def accuracy_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """SVG of what the training steps got right ("..._accuracy", shares in [0, 1]); "" if the history has none."""
    return _curves(history, _names(history, lambda name: name.endswith("_accuracy")), "iteration", "step",
                   "percent of the batch", "Accuracies of the training batches over steps", scale=100)


def metric_figure(history: Sequence[Mapping[str, Any]], metrics: Sequence[str] = ("mAP", "rank1")) -> str:
    """SVG of the metrics, in percent, over epochs; "" if the history has none."""
    return _curves(history, _names(history, lambda name: name in metrics), "epoch", "epoch", "percent",
                   "Retrieval metrics over epochs", marker="o", top=100)


def cmc_figure(cmc: np.ndarray) -> str:
    """SVG of the cumulative matching characteristic. cmc: shares in [0, 1] at ranks 1, 2, ..."""
    figure, axes = _axes("rank", "queries matched, percent")
    ranks = np.arange(1, len(cmc) + 1)
    axes.plot(ranks, 100 * cmc, color=_SERIES[0], linewidth=2, marker="o" if len(cmc) == 1 else None)
    for rank in (1, 5, 10):
        if rank <= len(cmc):
            value = 100 * cmc[rank - 1]
            axes.plot(rank, value, "o", color=_SERIES[0], markersize=5)
            axes.annotate(f"{value:.1f}", (rank, value), xytext=(5, -12), textcoords="offset points",
                          color=_TEXT, fontsize=9)
    axes.set_xlim(0, len(cmc) + 1)
    axes.set_ylim(max(0, 100 * cmc[0] - 15), 102)
    return _svg(figure, "CMC curve: share of queries with a true match up to each rank")


def distance_figure(same: np.ndarray, different: np.ndarray, metric: str) -> str:
    """SVG of the densities of distances [N] between images of one identity and of different ones."""
    figure, axes = _axes(f"{metric} distance", "density")
    axes.yaxis.set_ticks([])
    bins = np.linspace(*np.histogram_bin_edges(np.concatenate([same, different]))[[0, -1]], 61)
    for values, label, color, dash in (
        (same, "same identity, other camera", _SERIES[2], "-"),
        (different, "different identities", _SERIES[1], "--"),
    ):
        density = np.histogram(values, bins)[0] / max(len(values), 1)
        axes.stairs(density, bins, color=color, alpha=0.25, fill=True)
        axes.stairs(density, bins, color=color, linewidth=1.5, linestyle=dash, label=label)
    _legend(axes)
    return _svg(figure, "Distribution of distances for pairs of the same identity and of different identities")


def spoken_name(metric: str) -> str:
    """A metric's name for people: "rank-1" of "rank1"."""
    return f"rank-{metric[4:]}" if metric.startswith("rank") and metric[4:].isdigit() else metric


def _names(history: Sequence[Mapping[str, Any]], wanted: Callable[[str], bool]) -> list[str]:
    return list(dict.fromkeys(name for row in history for name in row if wanted(name)))


def _curves(
    history: Sequence[Mapping[str, Any]], names: Sequence[str], along: str, x_label: str, y_label: str,
    description: str, marker: str | None = None, top: float | None = None, scale: float = 1,
) -> str:  # fmt: skip
    figure, axes = _axes(x_label, y_label)
    drawn = 0
    for number, name in enumerate(names):
        points = [(row[along], scale * row[name]) for row in history if along in row and _drawable(row.get(name))]
        if points:
            color, dash = _SERIES[number % len(_SERIES)], _DASHES[number % len(_DASHES)]
            axes.plot(*zip(*points, strict=True), label=spoken_name(name), color=color, linestyle=dash,
                      linewidth=1.8, marker=marker, markersize=4)
            drawn += 1
    if not drawn:
        return ""
    axes.set_ylim(bottom=0, top=top)
    axes.ticklabel_format(axis="y", scilimits=(-2, 5))
    axes.yaxis.get_offset_text().set(color=_TEXT, x=-0.12)  # beside the names of the stages
    axes.xaxis.get_major_locator().set_params(integer=True)
    _mark_stages(axes, history, along)
    if drawn > 1:
        _legend(axes)
    return _svg(figure, description)


def _drawable(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _mark_stages(axes: Axes, history: Sequence[Mapping[str, Any]], along: str) -> None:
    """A line and a name where a stage of the training begins, if there are several and they share the x axis."""
    begins: dict[str, float] = {}
    for row in history:
        if "stage" in row and along in row:
            begins.setdefault(str(row["stage"]), row[along])
    if along != "iteration" or len(begins) < 2:
        return
    for name, begin in begins.items():
        axes.axvline(begin, color=_GRID, linewidth=1.2)
        axes.annotate(name, (begin, 1), xycoords=("data", "axes fraction"), xytext=(3, 3),
                      textcoords="offset points", color=_TEXT, fontsize=8, annotation_clip=False)


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 2.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, color=_TEXT)
    axes.set_ylabel(y_label, color=_TEXT)
    axes.tick_params(colors=_TEXT, labelsize=9, length=0)
    axes.grid(True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.patch.set_alpha(0)
    figure.patch.set_alpha(0)
    return figure, axes


def _legend(axes: Axes) -> None:
    """Below the plot, where it hides no curve."""
    axes.figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9, labelcolor=_TEXT)


def _svg(figure: Figure, description: str) -> str:
    """The figure as an <svg> element with a description for those who do not see it; the same bytes each time."""
    buffer = io.StringIO()
    salt = "".join(word[0] for word in description.split())  # ids must differ between the figures of a page
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub("#0[123]0[123]0[1-6]", lambda found: _CSS[found[0]], svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
