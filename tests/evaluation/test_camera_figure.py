"""Heat maps of camera pairs: a cell for each pair, its number in it, few queries left out first."""

import io

import numpy as np
import pytest
from PIL import Image

from reid_core.evaluation import CameraPairs
from reid_core.evaluation import camera_figure as module
from reid_core.evaluation.camera_figure import MAX_CAMERAS, camera_figure


def pairs(rows: int, columns: int) -> CameraPairs:
    generator = np.random.default_rng(0)
    values, counts = generator.random((rows, columns)), generator.integers(1, 9, (rows, columns))
    np.fill_diagonal(values, np.nan)
    return CameraPairs(np.arange(rows) + 2, np.arange(columns) + 4, values, np.sqrt(values), counts)


@pytest.fixture
def drawn(monkeypatch):
    """camera_figure's figures."""
    figures = []
    monkeypatch.setattr(module, "as_png", figures.append)

    def draw(*arguments):
        camera_figure(*arguments)
        return figures[-1]

    return draw


def numbers(axes, shape):
    cells = [text for text in axes.texts if text.get_transform() == axes.transData]
    return np.array([text.get_text() for text in cells]).reshape(shape)


def test_cells_hold_percent_and_cameras_count_from_one(drawn):
    shown = pairs(2, 3)
    figure = drawn(shown)
    assert len(figure.axes) == 2
    for axes, values in zip(figure.axes, (shown.mAP, shown.rank1), strict=True):
        expected = [["-" if np.isnan(value) else f"{100 * value:.0f}" for value in row] for row in values]
        assert numbers(axes, (2, 3)).tolist() == expected
        assert [label.get_text() for label in axes.get_yticklabels()] == ["3", "4"]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "6", "7"]
    assert figure.axes[1].get_title().startswith("rank-1")


def test_every_number_stands_out_from_its_cell(drawn):
    """By the ratio of the web's accessibility guidelines, at least 3."""

    def luminance(color):
        color = np.asarray(color[:3], dtype=float)
        linear = np.where(color <= 0.03928, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    values = np.linspace(0, 1, 36).reshape(6, 6)
    cameras = np.arange(6)
    axes = drawn(CameraPairs(cameras, cameras, values, values, np.ones((6, 6), dtype=int)), ["mAP"]).axes[0]
    colors = np.asarray(axes.images[0].get_array())
    from matplotlib.colors import to_rgb

    for text in axes.texts:
        if text.get_transform() == axes.transData:
            column, row = text.get_position()
            light = sorted((luminance(to_rgb(text.get_color())), luminance(colors[row, column])))
            assert (light[1] + 0.05) / (light[0] + 0.05) > 3


def test_of_many_cameras_those_with_most_queries_are_drawn(drawn):
    shown = pairs(MAX_CAMERAS + 5, 3)
    axes = drawn(shown, ["mAP"]).axes[0]
    totals = shown.num_valid_queries.sum(axis=1)
    labels = [int(label.get_text()) - 3 for label in axes.get_yticklabels()]
    assert len(labels) == MAX_CAMERAS and labels == sorted(labels)
    assert min(totals[labels]) >= max(np.delete(totals, labels))
    assert numbers(axes, (MAX_CAMERAS, 3))[0, 1] == f"{100 * shown.mAP[labels[0], 1]:.0f}"


def test_equal_values_and_a_single_pair_can_be_drawn():
    single = CameraPairs(np.array([0]), np.array([1]), np.array([[1.0]]), np.array([[1.0]]), np.array([[3]]))
    png = camera_figure(single)
    assert png == camera_figure(single)
    assert min(Image.open(io.BytesIO(png)).size) > 200


def test_no_value_at_all_is_refused():
    shown = pairs(1, 1)
    with pytest.raises(ValueError, match="nothing to show"):
        camera_figure(shown)
