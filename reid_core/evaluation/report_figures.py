"""The report's curves, drawn by matplotlib in the style of `plot_style.py`."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reid_core.evaluation.plot_style import DASHES, GRID, SERIES, TEXT, as_svg, legend_below, new_axes


def loss_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """SVG of every loss over training steps; "" if the history has none."""
    names = _names(history, lambda name: "loss" in name)
    names.sort(key=lambda name: name != "total_loss")  # the sum first: it gets the first colour
    return _curves(history, names, "iteration", "step", "loss", "Training losses over steps")


def learning_rate_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """SVG of the learning rate over training steps; "" if the history has none."""
    return _curves(
        history,
        _names(history, lambda name: name == "lr"),
        "iteration",
        "step",
        "learning rate",
        "Learning rate over steps",
    )


def accuracy_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """SVG of what the training steps got right ("..._accuracy", shares in [0, 1]); "" if the history has none."""
    return _curves(
        history,
        _names(history, lambda name: name.endswith("_accuracy")),
        "iteration",
        "step",
        "percent of the batch",
        "Accuracies of the training batches over steps",
        scale=100,
    )


def metric_figure(history: Sequence[Mapping[str, Any]], metrics: Sequence[str] = ("mAP", "rank1")) -> str:
    """SVG of the metrics, in percent, over epochs; "" if the history has none."""
    return _curves(
        history,
        _names(history, lambda name: name in metrics),
        "epoch",
        "epoch",
        "percent",
        "Retrieval metrics over epochs",
        marker="o",
        top=100,
    )


def clustering_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """SVG of how well pseudo labels agree with identities, in percent, over epochs; "" if the history has none."""
    return _curves(
        history,
        _names(history, lambda name: name in ("NMI", "ARI", "pairwise_F")),
        "epoch",
        "epoch",
        "percent",
        "Clusters against identities over epochs",
        marker="o",
        top=100,
    )


def cluster_count_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """SVG of the number of clusters and of images in none over epochs; "" if the history has none."""
    return _curves(
        history,
        _names(history, lambda name: name in ("clusters", "outliers")),
        "epoch",
        "epoch",
        "number",
        "Numbers of clusters and outliers over epochs",
        marker="o",
    )


def cmc_figure(cmc: np.ndarray) -> str:
    """SVG of the cumulative matching characteristic. cmc: shares in [0, 1] at ranks 1, 2, ..."""
    figure, axes = new_axes("rank", "queries matched, percent")
    ranks = np.arange(1, len(cmc) + 1)
    axes.plot(ranks, 100 * cmc, color=SERIES[0], linewidth=2, marker="o" if len(cmc) == 1 else None)
    for rank in (1, 5, 10):
        if rank <= len(cmc):
            value = 100 * cmc[rank - 1]
            axes.plot(rank, value, "o", color=SERIES[0], markersize=5)
            axes.annotate(
                f"{value:.1f}", (rank, value), xytext=(5, -12), textcoords="offset points", color=TEXT, fontsize=9
            )
    axes.set_xlim(0, len(cmc) + 1)
    axes.set_ylim(max(0, 100 * cmc[0] - 15), 102)
    return as_svg(figure, "CMC curve: share of queries with a true match up to each rank")


def distance_figure(same: np.ndarray, different: np.ndarray, metric: str, camera_rule: bool = True) -> str:
    """SVG of `draw_distances`."""
    figure = draw_distances(same, different, metric, camera_rule)
    return as_svg(figure, "Distribution of distances for pairs of the same identity and of different identities")


def draw_distances(same: np.ndarray, different: np.ndarray, metric: str, camera_rule: bool = True) -> Figure:
    """Densities of distances [N] between images of one identity and of different ones.

    camera_rule: whether the pairs of one identity are of two cameras.
    """
    figure, axes = new_axes(f"{metric} distance", "density")
    axes.yaxis.set_ticks([])
    bins = np.linspace(*np.histogram_bin_edges(np.concatenate([same, different]))[[0, -1]], 61)
    for values, label, color, dash in (
        (same, "same identity, other camera" if camera_rule else "same identity", SERIES[2], "-"),
        (different, "different identities", SERIES[1], "--"),
    ):
        density = np.histogram(values, bins)[0] / max(len(values), 1)
        axes.stairs(density, bins, color=color, alpha=0.25, fill=True)
        axes.stairs(density, bins, color=color, linewidth=1.5, linestyle=dash, label=label)
    legend_below(figure)
    return figure


def spoken_name(metric: str) -> str:
    """A metric's name for people: "rank-1" of "rank1", "pairwise F" of "pairwise_F"."""
    if metric == "pairwise_F":
        return "pairwise F"
    return f"rank-{metric[4:]}" if metric.startswith("rank") and metric[4:].isdigit() else metric


def _names(history: Sequence[Mapping[str, Any]], wanted: Callable[[str], bool]) -> list[str]:
    return list(dict.fromkeys(name for row in history for name in row if wanted(name)))


def _curves(
    history: Sequence[Mapping[str, Any]], names: Sequence[str], along: str, x_label: str, y_label: str,
    description: str, marker: str | None = None, top: float | None = None, scale: float = 1,
) -> str:  # fmt: skip
    figure, axes = new_axes(x_label, y_label)
    drawn = 0
    for number, name in enumerate(names):
        points = [(row[along], scale * row[name]) for row in history if along in row and _drawable(row.get(name))]
        if points:
            color, dash = SERIES[number % len(SERIES)], DASHES[number % len(DASHES)]
            axes.plot(
                *zip(*points, strict=True),
                label=spoken_name(name),
                color=color,
                linestyle=dash,
                linewidth=1.8,
                marker=marker,
                markersize=4,
            )
            drawn += 1
    if not drawn:
        return ""
    axes.set_ylim(bottom=0, top=top)
    axes.ticklabel_format(axis="y", scilimits=(-2, 5))
    axes.yaxis.get_offset_text().set(color=TEXT, x=-0.12)  # beside the names of the stages
    axes.xaxis.get_major_locator().set_params(integer=True)
    _mark_stages(axes, history, along)
    if drawn > 1:
        legend_below(figure)
    return as_svg(figure, description)


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
        axes.axvline(begin, color=GRID, linewidth=1.2)
        axes.annotate(
            name,
            (begin, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            color=TEXT,
            fontsize=8,
            annotation_clip=False,
        )
