"""Best and worst queries, and the entries of a ranked list: what is ranked, and how it is marked."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from reid_core.evaluation import EntryKind, PerQueryResults, RankedLists, RankingResults
from reid_core.evaluation.report_lists import best_and_worst, ranked_list
from reid_core.structures import ReIDImage


def with_precision(precision):
    precision = np.array(precision)
    return RankingResults(0.5, 0.5, np.ones(1), len(precision), 1, PerQueryResults(precision, precision, precision))


def test_best_and_worst_are_of_different_identities():
    results = with_precision([0.5, 0.9, 0.9, np.nan, 0.1, 0.2, 0.3])
    pids = [0, 1, 1, 2, 3, 3, 4]
    assert best_and_worst(results, pids, 2) == ([1, 0], [4, 6])


def test_no_query_is_in_both():
    results = with_precision([0.5, 0.25, np.nan])
    assert best_and_worst(results, [0, 1, 2], 5) == ([0], [1])
    assert best_and_worst(results, [0, 0, 2], 5) == ([0], [])


@pytest.fixture
def shown(tmp_path):
    kinds = [EntryKind.IGNORED, EntryKind.MATCH, EntryKind.WRONG, EntryKind.IGNORED, EntryKind.MATCH, EntryKind.WRONG]
    records = []
    for number in range(7):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (64 * (1 + number % 2), 32), (40 * number, 0, 0)).save(path)
        records.append(ReIDImage(str(path), 10 + number, number))
    lists = RankedLists(np.arange(6)[None], np.arange(6)[None] / 8, np.array([kinds], dtype=np.uint8))
    per_query = PerQueryResults(np.array([0.675]), np.array([0.5]), np.array([1]))
    results = RankingResults(0.5, 0.5, np.ones(1), 1, 1, per_query, lists)

    def show(length):
        return ranked_list(results, 0, records[6:], records[:6], length)

    return show


def test_only_ranked_images_count_for_the_length(shown):
    html = shown(3)
    places = re.findall(r'<figure class="(\w+)">.*?<figcaption>(.*?)<br>', html)
    assert places == [
        ("query", "query"),
        ("ignored", "<b>&ndash;</b> own cam"),
        ("match", "<b>1</b> ✓ match"),
        ("wrong", "<b>2</b> ✗ other"),
        ("ignored", "<b>&ndash;</b> own cam"),
        ("match", "<b>3</b> ✓ match"),
    ]
    assert "AP 67.5 %" in html


def test_a_list_may_be_shorter_than_asked(shown):
    assert shown(50).count("<li>") == 6


def test_captions_and_alternative_texts(shown):
    html = shown(1)
    assert 'alt="Query: identity 16, camera 7"' in html
    assert 'alt="Gallery, rank 1, a true match: identity 11, camera 2"' in html
    assert 'alt="Gallery, not ranked: identity 10, camera 1"' in html
    assert "id 11 · cam 2<br>d = 0.125" in html


def test_pictures_keep_their_shape_and_colour(shown):
    for width, height, data in re.findall(r'base64,([^"]*)" .*?width="(\d+)" height="(\d+)"', shown(5)):
        width, height, data = int(height), int(data), width
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size[0] / image.size[1] == pytest.approx(width / height, rel=0.05)
        assert image.width <= 128
        red, green, _ = image.getpixel((5, 5))
        assert red % 40 in (*range(4), *range(36, 40))
        assert green < 10
