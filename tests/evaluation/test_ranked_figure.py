"""Ranked lists as a picture: the frame's colour says what an entry is, and pictures keep their shape."""

import io

import numpy as np
import pytest
from PIL import Image

from reid_core.evaluation import EntryKind, PerQueryResults, RankedLists, RankingResults
from reid_core.evaluation import ranked_figure as module
from reid_core.evaluation.ranked_figure import ranked_figure
from reid_core.structures import ReIDImage

KINDS = [EntryKind.WRONG, EntryKind.IGNORED, EntryKind.MATCH]
BLUE = (20, 30, 220)


@pytest.fixture
def show(tmp_path):
    """show(size=..., **options) -> the picture of one query, and of what it found, three plain blue images."""

    def draw(size=(20, 40), name="image", **options):
        records = []
        for number in range(4):
            path = tmp_path / f"{name}{number}.png"
            Image.new("RGB", size, BLUE).save(path)
            records.append(ReIDImage(str(path), 10**12 + number, number))
        lists = RankedLists(np.arange(3)[None], np.arange(3)[None] / 8, np.array([KINDS], dtype=np.uint8))
        per_query = PerQueryResults(np.array([0.5]), np.array([0.5]), np.array([2]))
        results = RankingResults(0.5, 0.5, np.ones(1), 1, 1, per_query, lists)
        png = ranked_figure(results, [0], records[3:], records[:3], "a title", **options)
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)

    return draw


def columns_of(picture, color):
    """Where pixels of this colour are, below the head."""
    return np.flatnonzero((picture[66:] == color).all(axis=2).any(axis=0))


def test_frames_stand_in_the_order_of_the_list_in_their_colours(show):
    picture = show()
    wrong, ignored, match = (columns_of(picture, module._COLORS[kind]) for kind in KINDS)
    assert wrong.max() < ignored.min() and ignored.max() < match.min()
    query = columns_of(picture, BLUE).min()
    assert query < wrong.min()


def test_an_ignored_image_is_paler_and_its_frame_broken(show):
    picture = show()
    blue = columns_of(picture, BLUE)
    ignored = columns_of(picture, module._COLORS[EntryKind.IGNORED])
    assert not ((blue > ignored.min()) & (blue < ignored.max())).any()
    solid, dashed = ((picture == module._COLORS[kind]).all(axis=2).sum() for kind in (KINDS[0], KINDS[1]))
    assert dashed < 0.8 * solid


@pytest.mark.parametrize("size", [(20, 40), (50, 50), (90, 30), (1, 300), (2000, 10)])
def test_pictures_keep_their_shape(show, size):
    picture = show(size)
    blue = (picture == BLUE).all(axis=2)
    left = columns_of(picture, module._COLORS[KINDS[0]]).min()
    query = blue[:, :left]
    height, width = query.any(axis=1).sum(), query.any(axis=0).sum()
    assert height <= module._BOX[1] and width <= module._BOX[0]
    assert abs(width - height * size[0] / size[1]) <= 1 + size[0] / size[1]


def test_a_list_may_be_cut_and_nothing_names_a_camera_that_says_nothing(show, monkeypatch):
    written = []
    draw_text = module.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        module.ImageDraw.ImageDraw,
        "text",
        lambda self, at, text, **style: written.append(text) or draw_text(self, at, text, **style),
    )
    picture = show(length=1, cameras=False)
    assert not len(columns_of(picture, module._COLORS[EntryKind.MATCH]))
    assert "1 ✗ other" in written and "AP 50.0 %" in written and "first match 2" in written
    assert not any("cam" in text or "not ranked" in text for text in written)
    written.clear()
    show()
    assert "same identity and camera: not ranked" in written and "- own cam" in written
    assert any(text.startswith("id 1000000000003 · c") for text in written)


def test_the_same_bytes_and_names_outside_utf8(show):
    assert (show(name="n\udce9 $x$ ") == show()).all()


def test_refusals(show, tmp_path):
    show()
    results = RankingResults(0.5, 0.5, np.ones(1), 1, 1)
    with pytest.raises(ValueError, match="no query"):
        ranked_figure(results, [], [], [], "a title")
    (tmp_path / "image0.png").unlink()
    lists = RankedLists(np.zeros((1, 1), dtype=int), np.zeros((1, 1)), np.zeros((1, 1), dtype=np.uint8))
    gone = [ReIDImage(str(tmp_path / "image0.png"), 1, 1)]
    with pytest.raises(FileNotFoundError, match=r"image0\.png"):
        ranked_figure(RankingResults(0.5, 0.5, np.ones(1), 1, 1, None, lists), [0], gone, gone, "a title")
