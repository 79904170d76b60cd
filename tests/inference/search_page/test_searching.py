"""Searching against a plain sort of all cosines, whatever the query, model and filter."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reid_core.data.images import read_image
from reid_core.inference.search_page.errors import RefusedRequestError
from reid_core.inference.search_page.searching import Filter, Query, load_models


@pytest.fixture(scope="module")
def cosines(searcher, models, collection):
    """[model][source]: cosines of every image of the source with every gallery image, float64."""
    tables = []
    for model in models.values():
        features = {
            source: model.encode(list(collection.table(source).paths)).astype(np.float64)
            for source in ("query", "gallery")
        }
        tables.append({source: rows @ features["gallery"].T for source, rows in features.items()})
    return tables


def expected_hits(collection, scores, query, count, chosen):
    """number, rank, verdict of the hits, and how many images pass: by a loop over the gallery."""
    record = collection.table(query.source)[query.number]
    passing = []
    for number, row in enumerate(collection.gallery):
        own_camera = row.camid == record.camid and not chosen.own_camera
        if own_camera or (query.source == "gallery" and number == query.number):
            continue
        if chosen.camera is None or row.camid == chosen.camera:
            passing.append(number)
    hits, rank = [], 0
    for number in sorted(passing, key=lambda number: (-round(scores[number], 5), number))[:count]:
        row = collection.gallery[number]
        same = row.pid == record.pid
        verdict = "ignored" if same and row.camid == record.camid else "match" if same else "other"
        rank += verdict != "ignored"
        hits.append((number, None if verdict == "ignored" else rank, verdict))
    return hits, len(passing)


@settings(max_examples=60, deadline=None)
@given(
    model=st.integers(0, 1),
    source=st.sampled_from(["query", "gallery"]),
    number=st.integers(0, 3),
    count=st.integers(1, 20),
    camera=st.sampled_from([None, 0, 1]),
    own_camera=st.booleans(),
)
def test_hits_are_those_of_a_plain_sort(searcher, cosines, model, source, number, count, camera, own_camera):
    query, chosen = Query(source, number), Filter(camera, own_camera)
    answer = searcher.search(model, query, count, chosen)
    scores = cosines[model][source][number]
    hits, candidates = expected_hits(searcher.collection, scores, query, count, chosen)
    assert [(hit.number, hit.rank, hit.verdict) for hit in answer.hits] == hits
    assert answer.candidates == candidates
    np.testing.assert_allclose(
        [hit.score for hit in answer.hits], [scores[hit.number] for hit in answer.hits], atol=1e-5
    )
    for hit in answer.hits:
        record = searcher.collection.gallery[hit.number]
        assert (hit.camera, hit.identity) == (str(record.camid + 1), str(record.pid))


def test_an_uploaded_gallery_image_finds_itself_and_knows_nothing(searcher, collection, tmp_path):
    Image.open(collection.gallery[5].path).save(tmp_path / "a.png")
    answer = searcher.search(
        0, Query("upload", content=(tmp_path / "a.png").read_bytes()), 12, Filter(own_camera=False)
    )
    assert answer.hits[0].number == 5 and answer.hits[0].score > 0.9999
    assert len(answer.hits) == answer.candidates == 12  # no camera is the upload's own
    assert {hit.verdict for hit in answer.hits} == {"unknown"}
    assert [hit.rank for hit in answer.hits] == list(range(1, 13))


def test_the_models_differ(searcher):
    scores = [[hit.score for hit in searcher.search(model, Query("query", 0), 12, Filter()).hits] for model in (0, 1)]
    assert np.abs(np.subtract(*scores)).max() > 0.01


def test_many_threads_get_what_one_gets(searcher, picture):
    requests = [
        (model, query, count, Filter(camera))
        for model in (0, 1)
        for query in (Query("query", 1), Query("gallery", 7), Query("upload", content=picture))
        for count in (1, 12)
        for camera in (None, 1)
    ]
    alone = [searcher.search(*request) for request in requests]
    searcher._remembered.clear()
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda request: searcher.search(*request), requests))
    assert together == alone


def test_what_is_remembered_is_bounded_and_holds_no_upload(searcher, picture, monkeypatch):
    monkeypatch.setattr("reid_core.inference.search_page.searching._REMEMBERED", 3)
    for number in range(4):
        searcher.search(0, Query("gallery", number), 1, Filter())
    searcher.search(0, Query("upload", content=picture), 1, Filter())
    assert len(searcher._remembered) == 3
    assert not any(picture in key for key in searcher._remembered)


@pytest.mark.parametrize(
    ("model", "query", "count", "camera", "status"),
    [
        (2, Query("query", 0), 1, None, 404),
        (0, Query("query", 4), 1, None, 404),
        (0, Query("gallery", 12), 1, None, 404),
        (0, Query("query", 0), 0, None, 400),
        (0, Query("query", 0), 101, None, 400),
        (0, Query("query", 0), 1, 2, 404),
        (0, Query("upload", content=b"no image"), 1, None, 415),
    ],
)
def test_what_is_not_there_is_refused(searcher, model, query, count, camera, status):
    with pytest.raises(RefusedRequestError) as error:
        searcher.search(model, query, count, Filter(camera))
    assert error.value.status == status


def test_a_file_that_is_gone_is_named_by_number_only(searcher, collection, monkeypatch):
    monkeypatch.setattr(
        "reid_core.inference.search_page.pictures.read_image", lambda path, **_: read_image(f"{path}.gone")
    )
    with pytest.raises(RefusedRequestError) as error:
        searcher.picture("gallery", 3)
    assert error.value.status == 410 and "gallery image 3" in error.value.message
    assert collection.gallery[3].path not in error.value.message and "/" not in error.value.message


def test_a_model_without_attention_says_so(searcher, monkeypatch):
    assert searcher.attention(0, Query("query", 0)).startswith(b"\x89PNG")
    monkeypatch.setattr(searcher, "attentive", [False, True])
    with pytest.raises(RefusedRequestError, match="The model first has no attention"):
        searcher.attention(0, Query("query", 1))


def test_models_are_named_by_what_tells_them_apart():
    assert list(load_models(["runs/a/best.pt", "b/best.pt"], str)) == ["a/best.pt", "b/best.pt"]
    assert list(load_models(["x/a/best.pt", "y/a/best.pt"], str)) == ["x/a/best.pt", "y/a/best.pt"]
    for sources in ([], ["a.pt", "a.pt"]):
        with pytest.raises(ValueError, match="each once"):
            load_models(sources, str)
