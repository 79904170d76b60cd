"""Features as points on a plane: one t-SNE panel for each model, with the numbers that keep the picture honest."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # scikit-learn's own means to choose its number of threads
from torch import Tensor

PANEL_PIXELS = 640
"""Width of a panel in the picture."""

# Okabe & Ito's colours without yellow and black: told apart by colour-blind people, and seen on white. Their number
# and that of the markers have no common divisor, so that neighbouring identities differ in both.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "*", ">")
MAX_IDENTITIES = len(_COLORS) * len(_MARKERS)
"""Identities that a panel can tell apart."""

_DPI = 160
_PANEL_WIDTH, _MARGIN, _HEAD, _FOOT = PANEL_PIXELS / _DPI, 0.1, 0.68, 0.5  # inches
_HEIGHT = _HEAD + _PANEL_WIDTH - 2 * _MARGIN + _FOOT
_LEGEND_LINE, _LEGEND_COLUMNS = 0.19, 4  # inches; names in a line below each panel
_TEXT, _SOFT, _FRAME = "#222222", "#666666", "#cccccc"


class EmbeddingFigure(NamedTuple):
    """A PNG, and for each panel the numbers under it, of the features as they were before t-SNE."""

    png: bytes
    numbers: dict[str, dict[str, float]]


def embedding_figure(
    panels: Mapping[str, tuple[Tensor, Sequence[int] | Tensor | None]],
    points: str = "features",
    seed: int = 0,
    *,
    labels_are: str = "identities",
    legend: Mapping[int, str] | None = None,
    note: str = "",
    places: Mapping[str, np.ndarray] | None = None,
) -> EmbeddingFigure:
    """t-SNE (van der Maaten & Hinton 2008) of every panel's features by cosine distance, side by side.

    panels: title -> (features [N, D] float, labels [N] int64), N at least 4. Points of a label share colour and marker,
    the same in all panels. Without labels (None) every row stands for itself and all have one colour. points: what a
    row is, for the titles. labels_are: what a label is ("identities", "cameras"). legend: label -> its name, drawn
    below the panels. note: added to each panel's heading. places: float [N, 2] of each panel where `tsne_places` was
    called already. The same arguments give the same bytes.

    Numbers: with labels those of `identity_distances`, without them "nearest" of `nearest_distance`.
    Raises ValueError for no panel, too few rows or too many labels, and for features that are not finite, zero, or all
    the same.
    """
    if not panels:
        raise ValueError("A figure needs at least one panel.")
    styles = _styles([labels for _, labels in panels.values()], labels_are)
    below_all = _LEGEND_LINE * -(-len(legend) // (_LEGEND_COLUMNS * len(panels))) + _MARGIN if legend else 0
    height = _HEIGHT + below_all
    figure = Figure(figsize=(len(panels) * _PANEL_WIDTH, height), dpi=_DPI)
    numbers = {}
    for place, (title, (features, labels)) in enumerate(panels.items()):
        side, left = _PANEL_WIDTH - 2 * _MARGIN, place * _PANEL_WIDTH + _MARGIN
        axes = figure.add_axes(
            (left / figure.get_figwidth(), (_FOOT + below_all) / height, side / figure.get_figwidth(), side / height)
        )
        unit = _unit_rows(features, title)
        found_places = _tsne(unit, seed) if places is None else places[title]
        if labels is None:
            axes.scatter(*found_places.T, s=9, color=_COLORS[0], alpha=0.75, linewidths=0)
            numbers[title] = {"nearest": nearest_distance(features)}
            heading = f"{len(unit)} {points}, one for each identity"
            below = f"cosine distance to the nearest other: {numbers[title]['nearest']:.4f} on average"
        else:
            labels = torch.as_tensor(labels)
            _scatter(axes, found_places, labels, styles)
            numbers[title] = found = identity_distances(features, labels)
            heading = f"{len(unit)} {points} of {len(labels.unique())} {labels_are}"
            below = (
                f"cosine distance within {labels_are} {found['within']:.3f}, between {found['between']:.3f}\n"
                f"within / between = {found['ratio']:.3f}"
            )
        _dress(axes, title, heading + note, below)
    if legend:
        _draw_legend(figure, {styles[label]: name for label, name in legend.items() if label in styles})
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return EmbeddingFigure(buffer.getvalue(), numbers)


def tsne_places(features: Tensor, seed: int = 0) -> np.ndarray:
    """Where `embedding_figure` draws features [N, D], N at least 4: float32 [N, 2]; raises as it does."""
    return _tsne(_unit_rows(features, "features"), seed)


def identity_distances(features: Tensor, labels: Tensor) -> dict[str, float]:
    """Mean cosine distances, in [0, 2], over all pairs: "within" a label, "between" labels, and their "ratio".

    features: [N, D] float; labels: [N]. Raises ValueError without a pair of one label and a pair of two.
    """
    unit = _unit_rows(features, "features")
    distances = 1 - unit @ unit.T
    same = labels[:, None] == labels[None, :]
    pair = torch.ones_like(same).triu(diagonal=1)
    within, between = distances[same & pair], distances[~same & pair]
    if not len(within) or not len(between):
        raise ValueError(
            f"{len(labels)} features of {len(labels.unique())} identities hold no pair "
            f"{'within an identity' if not len(within) else 'of two identities'}; show more of them."
        )
    within, between = within.mean().item(), between.mean().item()
    return {"within": within, "between": between, "ratio": within / between if between else float("nan")}


def nearest_distance(features: Tensor) -> float:
    """Mean over the rows of the cosine distance, in [0, 2], to the nearest other row. features: [N, D] float, N > 1."""
    unit = _unit_rows(features, "features")
    nearest = []
    for start in range(0, len(unit), 1024):
        similarity = unit[start : start + 1024] @ unit.T
        rows = torch.arange(len(similarity))
        similarity[rows, start + rows] = -torch.inf
        nearest.append(1 - similarity.max(dim=1).values)
    return torch.cat(nearest).mean().item()


def _unit_rows(features: Tensor, title: str) -> Tensor:
    """float64 rows of length 1."""
    features = torch.as_tensor(features).detach().cpu().double()
    if features.dim() != 2 or len(features) < 2:
        raise ValueError(f"{title}: features must be [N, D] with several rows, got {list(features.shape)}.")
    if not features.isfinite().all():
        raise ValueError(f"{title}: {int((~features.isfinite().all(dim=1)).sum())} rows hold NaN or infinity.")
    norms = features.norm(dim=1, keepdim=True)
    if not norms.all():
        raise ValueError(f"{title}: {int((norms == 0).sum())} of {len(norms)} rows are zero and point nowhere.")
    return features / norms


def _tsne(unit: Tensor, seed: int) -> np.ndarray:
    """Places [N, 2]. Among rows of length 1 the squared distances, which t-SNE takes, are twice the cosine's."""
    if len(unit) < 4:
        raise ValueError(f"t-SNE needs at least 4 points, got {len(unit)}; show more identities or images.")
    if (unit - unit[0]).abs().max() < 1e-12:
        raise ValueError(f"All {len(unit)} features are the same; there is nothing to draw.")
    tsne = TSNE(perplexity=min(30.0, (len(unit) - 1) / 3), init="pca", learning_rate="auto", random_state=seed)
    with threadpool_limits(1):  # sums in another order, as of more threads, end in another picture
        return tsne.fit_transform(unit.numpy())


def _styles(
    labels: Sequence[Sequence[int] | Tensor | None], labels_are: str = "identities"
) -> dict[int, tuple[str, str]]:
    """Colour and marker of every label."""
    known = sorted({int(label) for panel in labels if panel is not None for label in panel})
    if len(known) > MAX_IDENTITIES:
        raise ValueError(
            f"{len(known)} {labels_are} cannot be told apart in a picture; show {MAX_IDENTITIES} or fewer."
        )
    return {
        label: (_COLORS[place % len(_COLORS)], _MARKERS[place % len(_MARKERS)]) for place, label in enumerate(known)
    }


def _scatter(axes: Axes, places: np.ndarray, labels: Tensor, styles: Mapping[int, tuple[str, str]]) -> None:
    for label in labels.unique().tolist():
        color, marker = styles[label]
        mine = places[(labels == label).numpy()]
        axes.scatter(*mine.T, s=24, color=color, marker=marker, alpha=0.85, edgecolors="white", linewidths=0.4)


def _draw_legend(figure: Figure, names: Mapping[tuple[str, str], str]) -> None:
    """Names beside their colour and marker, below the panels."""
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="", markersize=5, label=name)
        for (color, marker), name in names.items()
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=min(len(handles), _LEGEND_COLUMNS * round(figure.get_figwidth() / _PANEL_WIDTH)),
        frameon=False,
        fontsize=8,
        labelcolor=_TEXT,
        handletextpad=0.2,
        columnspacing=0.6,
    )


def _dress(axes: Axes, title: str, heading: str, below: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.06)
    for side in axes.spines.values():
        side.set_color(_FRAME)
    name = "\n".join(textwrap.wrap(title, 40, max_lines=2, placeholder=" ..."))
    axes.set_title(f"{name}\n", color=_TEXT, fontsize=11, fontweight="bold", parse_math=False)
    axes.text(0.5, 1.02, heading, transform=axes.transAxes, ha="center", va="bottom", color=_SOFT, fontsize=9)
    axes.set_xlabel(below, color=_TEXT, fontsize=8.5)
