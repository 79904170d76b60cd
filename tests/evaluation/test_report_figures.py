"""The curves: every series is drawn, colours come from the page, and matplotlib's own settings stay as they were."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from reid_core.evaluation import report_figures as figures
from reid_core.evaluation.plot_style import GRID, SERIES, TEXT

HISTORY = [
    {"stage": "one", "iteration": 5, "epoch": 1, "total_loss": 4.0, "lr": 1e-3, "a_accuracy": 0.125},
    {"stage": "one", "iteration": 5, "epoch": 1, "NMI": 60.0, "ARI": 20.0, "pairwise_F": 30},
    {"stage": "one", "iteration": 5, "epoch": 1, "clusters": 90.0, "outliers": 5.0},
    {"stage": "two", "iteration": 10, "epoch": 2, "total_loss": 3.0, "loss_id": 2.0, "lr": 1e-4, "mAP": 10.0},
    {"stage": "two", "iteration": 15, "epoch": 3, "total_loss": float("inf"), "loss_id": 1.0, "mAP": 20, "rank1": 30.0},
]


def all_figures():
    return {
        "loss": figures.loss_figure(HISTORY),
        "lr": figures.learning_rate_figure(HISTORY),
        "metric": figures.metric_figure(HISTORY),
        "accuracy": figures.accuracy_figure(HISTORY),
        "clustering": figures.clustering_figure(HISTORY),
        "cluster count": figures.cluster_count_figure(HISTORY),
        "cmc": figures.cmc_figure(np.linspace(0.5, 1, 20)),
        "distance": figures.distance_figure(np.arange(5.0), np.arange(9.0), "cosine"),
    }


@pytest.mark.parametrize("name", ["loss", "lr", "metric", "accuracy", "clustering", "cluster count", "cmc", "distance"])
def test_is_an_svg_with_the_pages_colours(name):
    svg = all_figures()[name]
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(--series-" in svg
    assert "currentColor" in svg
    assert not re.search("|".join((TEXT, GRID, *SERIES)), svg)


def test_names_what_it_draws():
    texts = {name: re.findall(r"<text[^>]*>([^<]*)</text>", svg) for name, svg in all_figures().items()}
    assert {"total_loss", "loss_id", "one", "two", "step"} <= set(texts["loss"])
    assert {"mAP", "rank-1", "epoch"} <= set(texts["metric"])
    assert {"percent of the batch", "one", "two"} <= set(texts["accuracy"])
    assert {"NMI", "ARI", "pairwise F", "percent", "epoch"} <= set(texts["clustering"])
    assert {"clusters", "outliers", "number", "epoch"} <= set(texts["cluster count"])
    assert "50.0" in texts["cmc"]
    assert "cosine distance" in texts["distance"]


@pytest.mark.parametrize(
    "draw",
    [
        figures.loss_figure,
        figures.learning_rate_figure,
        figures.metric_figure,
        figures.accuracy_figure,
        figures.clustering_figure,
        figures.cluster_count_figure,
    ],
)
@pytest.mark.parametrize("history", [[], [{"iteration": 1, "epoch": 1, "total_loss": None, "mAP": "x"}], [{"lr": 1.0}]])
def test_nothing_to_draw_gives_nothing(draw, history):
    assert draw(history) == ""


@pytest.mark.parametrize("same, different", [([], []), ([1.0], []), ([2.0, 2.0], [2.0])])
def test_few_distances_can_be_drawn(same, different):
    assert figures.distance_figure(np.array(same), np.array(different), "cosine").startswith("<svg")


@pytest.mark.parametrize("ranks", [1, 3, 50])
def test_short_cmc_curves_can_be_drawn(ranks):
    assert figures.cmc_figure(np.full(ranks, 0.5)).startswith("<svg")


def test_settings_of_matplotlib_stay():
    before = dict(matplotlib.rcParams)
    all_figures()
    assert dict(matplotlib.rcParams) == before
