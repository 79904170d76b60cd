"""The report is one well-formed file that needs no other, holds the numbers, and escapes what it is given."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from reid_core.evaluation import write_report

HOSTILE = '<script>alert("x")</script>&\'"'
HISTORY = [
    {"stage": "train", "iteration": 10, "epoch": 1, "loss_id": 3.0, "total_loss": 3.5, "lr": 1e-4},
    {"stage": "train", "iteration": 20, "epoch": 2, "loss_id": 2.0, "total_loss": float("nan"), "lr": 1e-5},
    {"stage": "train", "iteration": 20, "epoch": 2, "mAP": 31.4, "rank1": 50.0},
]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags and text, and insists that every element is closed in the right order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style",):
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def write(ranked_set, tmp_path, **changes):
    arguments = {
        "title": "A run",
        "rows": {"untrained": {"mAP": 11.11, "rank1": 22.22}, "trained": {"mAP": 77.77, "rank1": 88.88, "x": {}}},
        "history": HISTORY,
        "results": ranked_set.results,
        "query_records": ranked_set.query,
        "gallery_records": ranked_set.gallery,
        "distances": ranked_set.distances,
        "settings": {"epochs": 60},
    }
    path = tmp_path / "out" / "report.html"
    write_report(path, **{**arguments, **changes})
    return path.read_text()


def test_is_one_well_formed_file(ranked_set, tmp_path):
    text = write(ranked_set, tmp_path)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "action", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)  # names of XML vocabularies, never fetched
    assert not re.search(r"https?://|//\w+\.|url\((?!#)|@import", without_names)
    assert not page.all("script")
    assert len(text) < 3_000_000
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "report.html"]


def test_same_input_same_bytes(ranked_set, tmp_path):
    assert write(ranked_set, tmp_path) == write(ranked_set, tmp_path)


def test_holds_the_numbers(ranked_set, tmp_path):
    texts = Page(write(ranked_set, tmp_path)).texts
    for number in ("11.1", "22.2", "77.8", "88.9"):
        assert number in texts
    assert {"mAP", "rank-1", "untrained", "trained", "epochs", "60"} <= set(texts)
    precision = ranked_set.results.per_query.average_precision
    for value in (np.nanmax(precision), np.nanmin(precision)):
        assert f"AP {100 * value:.1f} %" in texts


def test_variants_have_rows_of_their_own(ranked_set, tmp_path):
    rows = {"trained": {"mAP": 77.77, "reranked/mAP": 83.21}}
    texts = Page(write(ranked_set, tmp_path, rows=rows)).texts
    assert "trained, reranked" in texts and "83.2" in texts
    assert "reranked/mAP" not in texts


def test_is_accessible(ranked_set, tmp_path):
    page = Page(write(ranked_set, tmp_path))
    assert dict(page.all("html")[0]) == {"lang": "en"}
    assert all(image["alt"] for image in page.all("img"))
    assert all(image["role"] == "img" and image["aria-label"] for image in page.all("svg"))
    assert all(header.get("scope") in ("col", "row") for header in page.all("th"))
    assert len(page.all("h1")) == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert {attributes["aria-labelledby"] for attributes in page.all("section")} <= set(ids)


def test_every_curve_is_there(ranked_set, tmp_path):
    labels = [image["aria-label"] for image in Page(write(ranked_set, tmp_path)).all("svg")]
    assert len(labels) == len(set(labels)) == 5


def test_escapes_what_it_is_given(ranked_set, tmp_path):
    text = write(
        ranked_set,
        tmp_path,
        title=HOSTILE,
        rows={HOSTILE: {HOSTILE: 1.0}},
        history=[{**row, f"loss {HOSTILE}": 1.0} for row in HISTORY],
        settings={HOSTILE: HOSTILE},
        metric=HOSTILE,
    )
    page = Page(text)
    assert not page.all("script")
    assert "<script>" not in text
    assert "<b>odd" not in text  # in the folder's name
    assert page.texts.count(HOSTILE) >= 5
    assert any('"folder" <b>odd & name' in image.get("title", "") for image in page.all("img"))


def test_nothing_to_draw_is_left_out(ranked_set, tmp_path):
    page = Page(write(ranked_set, tmp_path, history=[], settings={}))
    headings = {text for text in page.texts if text in ("Results", "Training", "Retrieval", "Ranked lists", "Settings")}
    assert headings == {"Results", "Retrieval", "Ranked lists"}
    write(ranked_set, tmp_path, distances=(np.zeros(0), np.zeros(0)))


@pytest.mark.parametrize("missing", ["per_query", "ranked_lists"])
def test_results_without_lists_are_refused(ranked_set, tmp_path, missing):
    bare = ranked_set.results.__class__(**{**vars(ranked_set.results), missing: None})
    with pytest.raises(ValueError, match="top_k"):
        write(ranked_set, tmp_path, results=bare)


def test_records_of_another_set_are_refused(ranked_set, tmp_path):
    with pytest.raises(ValueError, match="results are of 8 queries, 7 records"):
        write(ranked_set, tmp_path, query_records=ranked_set.query[1:])


def test_a_picture_that_is_gone_is_named_and_no_report_written(ranked_set, tmp_path):
    gone = ranked_set.query[0]._replace(path=str(tmp_path / "gone.jpg"))
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        write(ranked_set, tmp_path, query_records=[gone, *ranked_set.query[1:]])
    assert not (tmp_path / "out" / "report.html").exists()


def test_curves_of_pseudo_labels_where_there_are_some(ranked_set, tmp_path):
    rows = [
        {"stage": "train", "iteration": 10 * epoch, "epoch": epoch, "clusters": 90.0, "outliers": 5.0, "NMI": 50.0}
        for epoch in (1, 2)
    ]
    page = Page(write(ranked_set, tmp_path, history=[*HISTORY, *rows]))
    labels = [image["aria-label"] for image in page.all("svg")]
    assert len(labels) == len(set(labels)) == 7
    assert {"Pseudo labels against the identities", "Clusters, and images in none (outliers)"} <= set(page.texts)
    unknown = [{name: value for name, value in row.items() if name != "NMI"} for row in rows]
    assert len(Page(write(ranked_set, tmp_path, history=[*HISTORY, *unknown])).all("svg")) == 6
