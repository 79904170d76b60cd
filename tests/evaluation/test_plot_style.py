"""How plots leave: SVG without a colour of its own, PNG on white, the same bytes each time."""

import io

import numpy as np
from PIL import Image

from reid_core.evaluation.plot_style import GRID, SERIES, TEXT, as_png, as_svg, legend_below, new_axes


def plot():
    figure, axes = new_axes("x", "y")
    for number, color in enumerate(SERIES):
        axes.plot([0, 1], [0, number], color=color, label=f"series {number}")
    legend_below(figure)
    return figure


def test_the_svg_takes_all_colours_from_the_page():
    svg = as_svg(plot(), "six lines")
    assert not any(color in svg for color in (TEXT, GRID, *SERIES))
    assert all(f"var(--series-{number})" in svg for number in range(1, 7))
    assert "currentColor" in svg and "var(--line)" in svg
    assert as_svg(plot(), "six lines") == svg


def test_the_png_is_opaque_white_with_the_same_colours():
    png = as_png(plot())
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    assert (pixels[..., 3] == 255).all()
    assert tuple(pixels[0, 0, :3]) == (255, 255, 255)
    seen = {"#" + bytes(color).hex() for color in np.unique(pixels[..., :3].reshape(-1, 3), axis=0)}
    assert set(SERIES) <= seen
    assert as_png(plot()) == png


def test_a_name_that_two_plots_share_stands_in_the_legend_once():
    figure, axes = new_axes("x", "y")
    for place in (axes, axes.twinx()):
        place.plot([0, 1], label="a run")
    legend_below(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a run"]
