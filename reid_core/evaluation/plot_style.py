"""The look of the plots, and how they leave: as SVG that takes its colours from the page, or as PNG on white.

matplotlib draws with the page's light colours (`report_page.py`); in an SVG they are replaced by the page's CSS
variables, so that it follows light, dark and print.
"""

import io
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TEXT, SOFT, GRID = "#1c2430", "#5b6675", "#d9dee5"
SERIES = ("#1f5fbf", "#c2570c", "#14834a", "#8a3fb0", "#0d7f8c", "#a0741a")
DASHES = ("-", "--", "-.", ":")  # so that curves differ without colour, too
DPI = 160  # of a PNG
_CSS = {TEXT: "currentColor", GRID: "var(--line)"} | {color: f"var(--series-{i + 1})" for i, color in enumerate(SERIES)}


def new_axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """A figure with one empty plot."""
    figure = Figure(figsize=(4.4, 2.8), layout="constrained")
    axes = figure.add_subplot()
    dress_axes(axes, x_label, y_label)
    figure.patch.set_alpha(0)
    return figure, axes


def dress_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Names, a grid behind the curves, no frame."""
    axes.set_xlabel(x_label, color=TEXT)
    axes.set_ylabel(y_label, color=TEXT)
    axes.tick_params(colors=TEXT, labelsize=9, length=0)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.patch.set_alpha(0)


def legend_below(figure: Figure, columns: int = 2) -> None:
    """Below the plots, where it hides no curve. Names that two plots share stand in it once."""
    lines = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        lines.values(),
        lines.keys(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=TEXT,
    )


def as_svg(figure: Figure, description: str) -> str:
    """The figure as an <svg> element with a description for those who do not see it; the same bytes each time."""
    buffer = io.StringIO()
    salt = "".join(word[0] for word in description.split())  # ids must differ between the figures of a page
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub("|".join(_CSS), lambda found: _CSS[found[0]], svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG on white; the same bytes each time."""
    buffer = io.BytesIO()
    figure.patch.set_alpha(1)
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
