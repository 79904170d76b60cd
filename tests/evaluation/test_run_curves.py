"""Curves of several runs: what is averaged, which stage is drawn, what is refused."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from reid_core.evaluation import run_curves as module
from reid_core.evaluation.plot_style import SERIES
from reid_core.evaluation.run_curves import MAX_RUNS, points_of, read_runs, run_curves

ROWS = [
    {"stage": "one", "epoch": 1, "iteration": 2, "total_loss": 9.0},
    {"stage": "two", "epoch": 1, "iteration": 4, "total_loss": 4.0},
    {"stage": "two", "epoch": 1, "iteration": 6, "total_loss": 2.0},
    {"stage": "two", "epoch": 1, "iteration": 6, "mAP": 10.0},
    {"stage": "two", "epoch": 2, "iteration": 8, "total_loss": None, "lr": float("nan")},
    {"stage": "two", "epoch": 2, "iteration": 9, "total_loss": 1.0},
    {"stage": "two", "epoch": 2, "iteration": 9, "mAP": 20.0, "rank1": 30.0},
]


def write_run(folder, rows):
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def colors_in(png):
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return {"#" + bytes(color).hex() for color in np.unique(pixels, axis=0)}


def test_epochs_are_means_of_the_last_stage_and_steps_are_all_rows():
    assert points_of(ROWS, "total_loss", "epoch") == [(1, 3.0), (2, 1.0)]
    assert points_of(ROWS, "total_loss", "step") == [(2, 9.0), (4, 4.0), (6, 2.0), (9, 1.0)]
    assert points_of(ROWS, "mAP", "epoch") == [(1, 10.0), (2, 20.0)]
    assert points_of(ROWS, "lr", "step") == []


def test_a_colour_for_each_run_and_a_plot_for_each_metric():
    runs = {"a": ROWS, "b_$x$": [{**row, "mAP": 5.0} for row in ROWS], "_c": ROWS[:3]}
    png = run_curves(runs)
    assert png == run_curves(runs)
    assert set(SERIES[:3]) <= colors_in(png) and SERIES[3] not in colors_in(png)
    widths = [Image.open(io.BytesIO(run_curves(runs, metrics))).width for metrics in (["mAP"], ["mAP", "rank1"])]
    assert widths[1] == 2 * widths[0]


def test_a_run_without_the_metric_is_named(monkeypatch):
    figures = []
    monkeypatch.setattr(module, "as_png", figures.append)
    run_curves({"a": ROWS, "young": ROWS[:3]}, ["mAP"])
    axes = figures[0].axes[0]
    assert axes.get_title() == "not logged by young"
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 10], [2, 20]], []]
    assert axes.get_ylim()[0] == 0


def test_negative_values_are_not_cut_off(monkeypatch):
    figures = []
    monkeypatch.setattr(module, "as_png", figures.append)
    run_curves({"a": [{"epoch": 1, "iteration": 1, "gain": -3.0}, {"epoch": 2, "iteration": 2, "gain": 1.0}]}, ["gain"])
    assert figures[0].axes[0].get_ylim()[0] < -3


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    folders = [write_run(tmp_path / name / "run", ROWS) for name in ("a", "b")]
    assert list(read_runs(folders)) == ["a/run", "b/run"]
    assert list(read_runs(folders[:1])) == ["run"]
    assert read_runs([folders[0] / "metrics.jsonl"])["run"][-1] == ROWS[-1]
    with pytest.raises(ValueError, match="A run is named twice: .*a/run"):
        read_runs([folders[0], folders[0] / "metrics.jsonl"])


def test_runs_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing does not exist: name the OUTPUT_DIR"):
        read_runs([tmp_path / "nothing"])
    with pytest.raises(ValueError, match="has logged nothing yet"):
        read_runs([write_run(tmp_path / "empty", [])])


@pytest.mark.parametrize(
    ("runs", "metrics", "over", "message"),
    [
        ({"a": ROWS}, ["map"], "epoch", "No run has a metric 'map'. Did you mean 'mAP'.*total_loss, mAP, rank1"),
        ({"a": [{"epoch": 1}]}, ["mAP"], "epoch", "They have: none"),
        ({"a": ROWS}, [], "hour", "over epoch or step, not over 'hour'"),
        ({}, [], "epoch", "0 runs cannot be drawn"),
        ({str(n): ROWS for n in range(MAX_RUNS + 1)}, [], "epoch", f"choose 1 to {MAX_RUNS}"),
    ],
)
def test_refusals(runs, metrics, over, message):
    with pytest.raises(ValueError, match=message):
        run_curves(runs, metrics, over)


def test_every_run_up_to_the_largest_number_has_a_look_of_its_own(monkeypatch):
    figures = []
    monkeypatch.setattr(module, "as_png", figures.append)
    run_curves({f"run {number}": ROWS for number in range(MAX_RUNS)}, ["mAP"])
    assert len({(line.get_color(), line.get_linestyle()) for line in figures[0].axes[0].lines}) == MAX_RUNS
