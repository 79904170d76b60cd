"""t-SNE panels: the numbers against plain loops, the same bytes twice, identities that can be told apart."""

import io
import math

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.evaluation import embedding_figure as module
from reid_core.evaluation.embedding_figure import embedding_figure, identity_distances, nearest_distance


def clusters(identities: int = 4, images: int = 6, spread: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(identities).repeat_interleave(images)
    centers = torch.randn(identities, 8, generator=generator)
    return centers[labels] + spread * torch.randn(len(labels), 8, generator=generator), labels


def cosine_distance(left: list[float], right: list[float]) -> float:
    product = sum(a * b for a, b in zip(left, right, strict=True))
    return 1 - product / math.sqrt(sum(a * a for a in left) * sum(b * b for b in right))


def test_numbers_match_plain_loops():
    features, labels = clusters()
    rows, within, between, nearest = features.tolist(), [], [], []
    for i, row in enumerate(rows):
        others = [cosine_distance(row, other) for j, other in enumerate(rows) if j != i]
        nearest.append(min(others))
        for j in range(i):
            (within if labels[i] == labels[j] else between).append(cosine_distance(row, rows[j]))
    found = identity_distances(features, labels)
    assert found["within"] == pytest.approx(np.mean(within), rel=1e-5)
    assert found["between"] == pytest.approx(np.mean(between), rel=1e-5)
    assert found["ratio"] == pytest.approx(np.mean(within) / np.mean(between), rel=1e-5)
    assert nearest_distance(features) == pytest.approx(np.mean(nearest), rel=1e-5)


def test_nearest_distance_of_more_rows_than_a_block():
    features = torch.randn(1100, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = features / features.norm(dim=1, keepdim=True)
    expected = torch.cdist(unit, unit).fill_diagonal_(9).min(dim=1).values.square().mean().item() / 2
    assert nearest_distance(features) == pytest.approx(expected, rel=1e-6)


def test_a_panel_for_each_model_and_the_same_bytes_twice():
    features, labels = clusters()
    panels = {"first": (features, labels), "$\\second$": (features * torch.rand(24, 1) + 0.1, labels)}
    before = dict(matplotlib.rcParams)
    pictures = [embedding_figure(panels, "image features", seed=1) for _ in range(2)]
    assert pictures[0].png == pictures[1].png
    assert dict(matplotlib.rcParams) == before
    assert pictures[0].numbers["first"] == identity_distances(features, labels)
    one = embedding_figure({"first": panels["first"]})
    widths = [Image.open(io.BytesIO(png)).convert("RGB").width for png in (one.png, pictures[0].png)]
    assert widths == [module.PANEL_PIXELS, 2 * module.PANEL_PIXELS]


def test_close_features_are_drawn_close():
    """Each point's nearest neighbour on the plane has its identity, whatever the rows' lengths are."""
    features, labels = clusters(spread=0.05)
    lengths = torch.logspace(-3, 3, len(features), dtype=torch.float64)[:, None]
    places = module._tsne(module._unit_rows(features.double() * lengths, "panel"), 0)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()


def test_colour_and_marker_together_tell_all_identities_apart():
    styles = module._styles([range(module.MAX_IDENTITIES), None])
    assert len(set(styles.values())) == module.MAX_IDENTITIES
    assert all(styles[i][0] != styles[i + 1][0] and styles[i][1] != styles[i + 1][1] for i in range(19))


def test_without_labels_one_colour_and_the_nearest_distance(monkeypatch):
    features, _ = clusters()
    monkeypatch.setattr(module, "_scatter", None)
    figure = embedding_figure({"a model": (features, None)}, "text features")
    assert figure.numbers == {"a model": {"nearest": nearest_distance(features)}}


def test_places_that_are_given_are_drawn_and_the_legend_stands_below(monkeypatch):
    features, labels = clusters()
    places = module.tsne_places(features, seed=3)
    plain = embedding_figure({"a": (features, labels)}, seed=3)
    monkeypatch.setattr(module, "_tsne", None)
    given = {"panels": {"a": (features, labels)}, "places": {"a": places}}
    assert embedding_figure(**given).png == plain.png
    names = {label: f"camera {label}" for label in range(4)}
    figures = [embedding_figure(**given, labels_are="cameras", legend=legend).png for legend in (None, names)]
    sizes = [Image.open(io.BytesIO(png)).size for png in (plain.png, *figures)]
    assert sizes[0] == sizes[1] and sizes[2][0] == sizes[0][0] and sizes[2][1] > sizes[0][1]
    assert figures[0] != plain.png  # other words
    with pytest.raises(ValueError, match="100 cameras cannot be told apart"):
        embedding_figure({"a": (torch.randn(100, 8), list(range(100)))}, labels_are="cameras")


@pytest.mark.parametrize("count", [4, 5])
def test_few_points_can_be_drawn(count):
    figure = embedding_figure({"few": (torch.randn(count, 8), None)})
    assert figure.png.startswith(b"\x89PNG")
    assert figure.numbers["few"]["nearest"] > 0


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.randn(3, 8), None, "at least 4 points, got 3"),
        (torch.randn(8), None, r"must be \[N, D\] with several rows, got \[8\]"),
        (torch.randn(6, 8) / 0, None, "broken: 6 rows hold NaN"),
        (torch.eye(6)[:, :5], None, "broken: 1 of 6 rows are zero"),
        (torch.ones(6, 8), None, "All 6 features are the same"),
        (torch.randn(6, 8), [1] * 6, "6 features of 1 identities hold no pair of two identities"),
        (torch.randn(6, 8), list(range(6)), "no pair within an identity"),
        (torch.randn(100, 8), list(range(100)), "100 identities cannot be told apart in a picture; show 77"),
    ],
)
def test_refusals(features, labels, message):
    with pytest.raises(ValueError, match=message):
        embedding_figure({"broken": (features, labels)})


def test_no_panel_is_refused():
    with pytest.raises(ValueError, match="at least one panel"):
        embedding_figure({})
