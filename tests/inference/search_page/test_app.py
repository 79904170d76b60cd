"""The page's addresses, over HTTP."""

import io
import re
import threading

import pytest
from PIL import Image


def test_the_page_loads_nothing_from_elsewhere(page):
    texts = {name: page.ask(f"/{name}").content.decode() for name in ("", "page.css", "page.js")}
    assert page.ask("/").headers["content-type"].startswith("text/html")
    assert page.ask("/page.js").headers["content-type"].startswith("text/javascript")
    assert page.ask("/page.css").headers["content-type"].startswith("text/css")
    for text in texts.values():
        assert not re.search(r"https?:|//[a-z]|@import|url\(|innerHTML|eval\(", text.replace("// ", ""))
    assert set(re.findall(r'(?:src|href)="([^"#]+)', texts[""])) == {"page.css", "page.js", "data:,"}
    assert not re.search(r"\son[a-z]+=|style=|<style|<script>", texts[""])  # the policy would refuse them


def test_the_facts(page, collection):
    facts = page.ask("/api/page").content
    assert facts["gallery"] == {"name": "Market1501", "images": 12}
    assert facts["cameras"] == [{"camid": 0, "name": "1"}, {"camid": 1, "name": "2"}]
    assert facts["models"] == [{"name": "first", "attention": True}, {"name": "second", "attention": True}]
    assert facts["pick"] == {"source": "query", "images": 4}
    assert facts["upload"]["max_bytes"] == 200_000


def test_pictures_to_pick_from(page):
    found = page.ask("/api/pictures?source=query&first=1&count=2").content["pictures"]
    assert found == [
        {"number": 1, "camera": "1", "identity": "101"},
        {"number": 2, "camera": "1", "identity": "102"},
    ]
    assert page.ask("/api/pictures?first=4").content["pictures"] == []
    assert len(page.ask("/api/pictures?source=gallery&count=999999").content["pictures"]) == 12


def test_a_search_with_a_query(page):
    answer = page.ask("/api/search/query/2?model=1&count=5&camera=1&own_camera=0")
    assert answer.status == 200
    content = answer.content
    assert content["query"] == {"camera": "1", "identity": "102"}
    assert len(content["hits"]) == 5 and {hit["camera"] for hit in content["hits"]} == {"2"}
    assert content["candidates"] == sum(
        1 for hit in page.ask("/api/search/query/2?count=100").content["hits"] if hit["camera"] == "2"
    )
    assert [hit["score"] for hit in content["hits"]] == sorted((hit["score"] for hit in content["hits"]), reverse=True)
    assert answer.content == page.ask("/api/search/query/2?model=1&count=5&camera=1&own_camera=0").content


def test_a_search_with_an_upload(page, picture):
    answer = page.ask("/api/search?count=3", "POST", {"Content-Type": "text/html"}, picture)
    assert answer.status == 200 and len(answer.content["hits"]) == 3
    assert answer.content["query"] == {"camera": None, "identity": None}
    assert {hit["verdict"] for hit in answer.content["hits"]} == {"unknown"}


def test_images_and_attention_are_pictures(page, picture):
    for path, method, body, kind in (
        ("/api/image/gallery/3", "GET", None, "JPEG"),
        ("/api/image/query/0", "GET", None, "JPEG"),
        ("/api/attention/gallery/3?model=1", "GET", None, "PNG"),
        ("/api/attention?model=1", "POST", picture, "PNG"),
    ):
        answer = page.ask(path, method, None, body)
        assert answer.status == 200 and answer.headers["content-type"] == f"image/{kind.lower()}"
        with Image.open(io.BytesIO(answer.content)) as image:
            assert image.format == kind and image.size == (32, 64)
    models = [page.ask(f"/api/attention/gallery/3?model={model}").content for model in (0, 1)]
    assert models[0] != models[1]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/image/gallery/12", 404),
        ("/api/image/gallery/-1", 400),
        ("/api/image/gallery/0x1", 400),
        ("/api/image/gallery/%D9%A1", 400),  # an Arabic 1
        ("/api/image/gallery/99999999999999999999", 400),
        ("/api/image/train/0", 404),
        ("/api/image/upload/0", 404),
        ("/api/image/gallery/../../page.js", 404),
        ("/api/image/gallery/..%2f..%2f..%2fetc%2fpasswd", 404),
        ("/api/image/gallery/%2e%2e", 400),
        ("/api/image/..%5c..%5c/0", 404),
        ("/../../../etc/passwd", 404),
        ("/..%2fapp.py", 404),
        ("/app.py", 404),
        ("//evil.example/", 404),
        ("/api/search/query/0?count=0", 400),
        ("/api/search/query/0?count=1e9", 400),
        ("/api/search/query/0?count=101", 400),
        ("/api/search/query/0?camera=7", 404),
        ("/api/search/query/0?model=2", 404),
        ("/api/search/query/0?model=first", 400),
        ("/api/search", 405),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(page, checkpoint, path, status):
    answer = page.ask(path)
    assert answer.status == status
    assert list(answer.content) == ["error"] and "\n" not in answer.content["error"]
    assert "Traceback" not in answer.content["error"] and str(checkpoint.parent) not in answer.content["error"]


def test_uploads_above_the_limits(page, searcher, picture):
    limit = searcher.limits.max_bytes
    padded = picture + bytes(limit - len(picture))
    assert page.ask("/api/search", "POST", None, padded).status == 200
    for size in (1, limit):
        answer = page.ask("/api/search", "POST", None, padded + bytes(size))
        assert answer.status == 413 and "up to 0.19" in answer.content["error"]
    assert page.ask("/api/search", "POST", None, b"").status == 400
    assert page.ask("/api/attention", "POST", None, b"GIF89a").status == 415
    bomb = io.BytesIO()
    Image.new("1", (5000, 5000)).save(bomb, "PNG")
    assert len(bomb.getvalue()) < limit
    assert page.ask("/api/search", "POST", None, bomb.getvalue()).status == 413


def test_uploads_leave_nothing_on_the_disk(page, picture, tmp_path, monkeypatch):
    opened, create = [], open
    monkeypatch.setattr(
        "builtins.open", lambda path, *words, **named: opened.append(path) or create(path, *words, **named)
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert page.ask("/api/search", "POST", None, picture + b"\0").status == 200
    assert opened == [] and list(tmp_path.iterdir()) == []


def test_requests_at_the_same_time_do_not_mix(page, picture):
    paths = [
        f"/api/search/{source}/{number}?model={model}"
        for source in ("query", "gallery")
        for number in range(4)
        for model in (0, 1)
    ]
    expected = {path: page.ask(path).content for path in paths}
    expected["upload"] = page.ask("/api/search", "POST", None, picture).content
    found, wrong = {}, []

    def ask(path):
        answer = page.ask("/api/search", "POST", None, picture) if path == "upload" else page.ask(path)
        found[path] = answer.content
        if answer.content != expected[path]:
            wrong.append(path)

    threads = [threading.Thread(target=ask, args=(path,)) for path in expected for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == [] and set(found) == set(expected)
