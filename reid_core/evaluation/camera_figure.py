"""mAP and rank-1 between cameras as heat maps: which views a model does not yet see as one identity."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reid_core.evaluation.plot_style import GRID, SOFT, TEXT, as_png
from reid_core.evaluation.report_figures import spoken_name
from reid_core.evaluation.results import CameraPairs

MAX_CAMERAS = 40
"""Cameras on a side that can be read; of more those with the most queries are drawn."""

_CELL, _LARGEST_CELL = 0.4, 0.9  # inches
_LEAST = 2.4  # of a map, so that its title fits: cells of few cameras are larger
_MARGIN, _HEAD, _FOOT = 0.75, 0.6, 0.6
_COLORS = colormaps["YlGnBu"]


def camera_figure(pairs: CameraPairs, metrics: Sequence[str] = ("mAP", "rank1")) -> bytes:
    """A PNG of maps side by side, query cameras in rows and gallery cameras in columns, cameras counted from 1.

    metrics: "mAP", "rank1". Cells hold percent; grey ones have no query with a true match. Each map's colours span
    its own smallest to its largest value. The same arguments give the same bytes. Raises ValueError where no pair of
    cameras has a value.
    """
    if not np.isfinite(pairs.mAP).any():
        raise ValueError("No pair of cameras has a query with a true match: there is nothing to show.")
    rows, columns = _largest(pairs.num_valid_queries, 1), _largest(pairs.num_valid_queries, 0)
    cell = max(_CELL, min(_LARGEST_CELL, _LEAST / len(columns)))
    height, width = len(rows) * cell, len(columns) * cell
    panel = max(width, _LEAST) + _MARGIN
    size = (len(metrics) * panel + 0.15, height + _HEAD + _FOOT)
    figure = Figure(figsize=size)
    for place, metric in enumerate(metrics):
        left = place * panel + _MARGIN + (panel - _MARGIN - width) / 2
        axes = figure.add_axes((left / size[0], _FOOT / size[1], width / size[0], height / size[1]))
        values = 100 * getattr(pairs, metric)[np.ix_(rows, columns)]
        _draw(axes, values, pairs.query_cameras[rows] + 1, pairs.gallery_cameras[columns] + 1)
        axes.set_title(f"{spoken_name(metric)}, percent\n", fontsize=10.5, fontweight="bold", color=TEXT, pad=2)
        mean = f"mean over the pairs {np.nanmean(values):.1f}"
        above = 1 + 0.08 / height
        axes.text(0.5, above, mean, transform=axes.transAxes, ha="center", fontsize=8.5, color=SOFT)
    return as_png(figure)


def _largest(counts: np.ndarray, other_axis: int) -> np.ndarray:
    """Positions, rising, of the cameras of one side with the most counted queries."""
    order = np.argsort(-counts.sum(axis=other_axis), kind="stable")
    return np.sort(order[:MAX_CAMERAS])


def _draw(axes: Axes, values: np.ndarray, query_cameras: np.ndarray, gallery_cameras: np.ndarray) -> None:
    low, high = np.nanmin(values), np.nanmax(values)
    shares = np.where(np.isnan(values), 0.0, (values - low) / (high - low if high > low else 1))
    shares = 0.08 + 0.84 * shares  # neither white paper nor near black
    colors = _COLORS(shares)
    colors[np.isnan(values)] = (0.93, 0.93, 0.93, 1)
    axes.imshow(colors, aspect="auto")
    brightness = colors[..., :3] @ np.array([0.299, 0.587, 0.114])
    for (row, column), value in np.ndenumerate(values):
        color = "white" if brightness[row, column] < 0.45 else TEXT
        text = "-" if np.isnan(value) else f"{value:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(gallery_cameras)), gallery_cameras)
    axes.set_yticks(range(len(query_cameras)), query_cameras)
    axes.tick_params(colors=TEXT, labelsize=8, length=0)
    axes.set_xlabel("gallery camera", color=TEXT, fontsize=9)
    axes.set_ylabel("query camera", color=TEXT, fontsize=9)
    for side in axes.spines.values():
        side.set_color(GRID)
