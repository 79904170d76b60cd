"""The page as a person uses it, in a real browser without a window."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.inference.search_page.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome is installed")

DONE = (
    "document.getElementById('found').getAttribute('aria-busy') === 'false' && document.querySelector('#results > li')"
)
IMAGES = (
    "[...document.images].filter(image => !image.closest('[hidden]'))"
    ".every(image => image.complete && image.naturalWidth)"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def opened(browser, page):
    """The page, freshly opened; at its end nothing may have gone wrong in it."""
    browser.errors.clear()
    browser.resize(1280, 900)
    browser.open(page.address)
    browser.wait_for("document.querySelectorAll('#pictures img').length === 4")
    yield browser
    assert browser.errors == []


def cards(browser):
    """number, class, text and spoken words of every result."""
    return browser.run(
        "[...document.querySelectorAll('#results > .card')].map(card => ({number: Number(card.dataset.number), "
        "kind: card.className, text: card.innerText, alt: card.querySelector('img').alt}))"
    )


def numbers(browser):
    return [card["number"] for card in cards(browser)]


def choose(browser, field, value):
    browser.run(
        f"(() => {{ const field = document.getElementById('{field}'); field.value = '{value}'; "
        "field.dispatchEvent(new Event('change')); })()"
    )
    browser.wait_for(DONE)


def pick(browser, place):
    browser.run(f"document.querySelectorAll('#pictures button')[{place}].click()")
    browser.wait_for(DONE)


def upload(browser, path):
    browser.choose_file("#file", path)
    browser.wait_for(f"document.getElementById('query-image').alt === 'Query: {path.name}'")
    browser.wait_for(DONE)


@pytest.fixture
def picture_file(picture, tmp_path):
    (tmp_path / "someone.png").write_bytes(picture)
    return tmp_path / "someone.png"


def test_an_empty_page_says_what_to_do(opened):
    assert opened.run("document.getElementById('gallery').textContent") == "Market1501: 12 images, 2 cameras"
    assert "Choose an image" in opened.run("document.querySelector('#results .empty').textContent")
    assert opened.run("document.getElementById('error').hidden")
    opened.wait_for(IMAGES)


def test_an_upload_is_searched_and_shown(opened, page, picture, picture_file):
    upload(opened, picture_file)
    expected = page.ask("/api/search?count=20", "POST", None, picture).content["hits"]
    shown = cards(opened)
    assert [card["number"] for card in shown] == [hit["number"] for hit in expected]
    for place, (card, hit) in enumerate(zip(shown, expected, strict=True)):
        assert card["kind"] == "card unknown"
        assert card["text"].split() == [
            str(place + 1),
            f"{hit['score']:.3f}",
            "id",
            hit["identity"],
            "cam",
            hit["camera"],
        ]
        assert card["alt"].startswith(f"rank {place + 1}, identity {hit['identity']}, camera {hit['camera']}, score")
    assert opened.run("document.getElementById('query-text').textContent") == "someone.png"
    assert opened.run("document.getElementById('query-image').src").startswith("blob:")
    assert opened.run("document.getElementById('status').textContent") == "12 of 12 images by first"
    assert opened.run("document.getElementById('key').hidden")
    opened.wait_for(IMAGES)


def test_a_query_frames_its_results_and_filters_by_camera(opened, page, collection):
    pick(opened, 1)
    shown = cards(opened)
    record = collection.query[1]
    for card in shown:
        found = collection.gallery[card["number"]]
        same = found.pid == record.pid
        kind = "ignored" if same and found.camid == record.camid else "match" if same else "other"
        assert card["kind"] == f"card {kind}"
        assert {"match": "✓ same", "other": "✗ other", "ignored": "own camera"}[kind] in card["text"]
        assert {"match": "same identity", "other": "another identity", "ignored": "not counted"}[kind] in card["alt"]
    frames = opened.run(
        "Object.fromEntries([...document.querySelectorAll('.card')].map(card => [card.className, "
        "getComputedStyle(card.querySelector('img')).border]))"
    )
    assert len(set(frames.values())) == len(frames) == 3
    assert frames["card ignored"].startswith("4px dashed") and frames["card match"].startswith("4px solid")
    assert not opened.run("document.getElementById('key').hidden")
    choose(opened, "cameras", "not-own")
    other = [card["number"] for card in shown if collection.gallery[card["number"]].camid != record.camid]
    assert numbers(opened) == other and len(other) < 12
    assert opened.run("document.getElementById('status').textContent").startswith(f"{len(other)} of {len(other)} ")
    choose(opened, "cameras", str(record.camid))
    assert numbers(opened) == [card["number"] for card in shown if card["number"] not in other]
    choose(opened, "cameras", "")
    choose(opened, "count", "10")
    assert numbers(opened) == [card["number"] for card in shown][:10]


def test_the_camera_of_an_upload_is_not_known(opened, picture_file):
    pick(opened, 0)
    choose(opened, "cameras", "not-own")
    upload(opened, picture_file)
    assert opened.run("document.getElementById('cameras').value") == ""
    assert opened.run("document.querySelector('[value=not-own]').disabled")
    assert len(cards(opened)) == 12


def test_another_model_answers_for_itself(opened, page):
    pick(opened, 2)
    choose(opened, "model", "1")
    expected = page.ask("/api/search/query/2?model=1").content["hits"]
    assert numbers(opened) == [hit["number"] for hit in expected]
    assert expected != page.ask("/api/search/query/2?model=0").content["hits"]
    assert [f"{hit['score']:.3f}" in card["text"] for hit, card in zip(expected, cards(opened), strict=True)] == [
        True
    ] * 12
    assert opened.run("document.getElementById('status').textContent") == "12 of 12 images by second"


def test_attention_of_results_and_of_an_upload(opened, picture_file):
    upload(opened, picture_file)
    plain = opened.run("document.getElementById('query-image').src")
    opened.run("document.getElementById('attention').click()")
    opened.wait_for("[...document.querySelectorAll('.card img')].every(image => image.src.includes('api/attention/'))")
    opened.wait_for(f"document.getElementById('query-image').src !== '{plain}'")
    opened.run("[...document.images].forEach(image => image.loading = 'eager')")
    opened.wait_for(IMAGES)
    assert opened.run("document.querySelector('.card img').naturalHeight") == 64
    assert not opened.run("document.getElementById('scale').hidden")
    choose(opened, "model", "1")
    opened.wait_for("document.querySelector('.card img').src.endsWith('model=1')")
    opened.run("document.getElementById('attention').click()")
    assert opened.run("[...document.querySelectorAll('.card img')].every(image => image.src.includes('api/image/'))")
    assert opened.run("document.getElementById('query-image').src") == plain
    assert opened.run("document.getElementById('scale').hidden")


def test_a_result_can_be_searched_with_by_keyboard(opened):
    pick(opened, 0)
    number = numbers(opened)[1]
    opened.run("document.querySelectorAll('.card button')[1].focus()")
    opened.press("Enter")
    opened.wait_for(f"document.getElementById('query-image').alt === 'Query: gallery image {number + 1}'")
    opened.wait_for(DONE)
    assert len(cards(opened)) == 11 and number not in numbers(opened)
    assert opened.run("document.activeElement.id") == "results-title"


def test_everything_is_reached_by_tab_and_has_a_name(opened):
    opened.run("document.body.focus()")
    reached = []
    for _ in range(18):
        opened.press("Tab")
        reached.append(opened.run("document.activeElement.id || document.activeElement.tagName"))
        if reached[-1] == "attention":
            break
    assert [name for name in reached if name in ("file", "first", "model", "cameras", "count", "attention")] == [
        "file",
        "first",
        "model",
        "cameras",
        "count",
        "attention",
    ]
    assert reached.count("BUTTON") == 4
    opened.send("Accessibility.enable")
    nodes = opened.send("Accessibility.getFullAXTree")["nodes"]
    widgets = [
        node for node in nodes if node.get("role", {}).get("value") in ("button", "combobox", "checkbox", "image")
    ]
    assert len(widgets) >= 10 and all(node["name"]["value"].strip() for node in widgets)
    opened.send("Accessibility.disable")


def test_refused_uploads_and_a_dead_server_are_said(opened, searcher, tmp_path):
    (tmp_path / "notes.png").write_bytes(b"these are notes, no image")
    upload(opened, tmp_path / "notes.png")
    assert "no image that the page reads" in opened.run("document.getElementById('error').textContent")
    assert not opened.run("document.getElementById('error').hidden")
    assert opened.run("document.getElementById('error').getAttribute('role')") == "alert"
    assert cards(opened) == []
    opened.errors.clear()  # the console notes the answer 415
    (tmp_path / "large.png").write_bytes(bytes(searcher.limits.max_bytes + 1))
    opened.choose_file("#file", tmp_path / "large.png")
    opened.wait_for("document.getElementById('error').textContent.includes('too large')")
    pick(opened, 0)
    assert opened.run("document.getElementById('error').hidden") and len(cards(opened)) == 12
    opened.run("window.fetch = () => Promise.reject(new TypeError('failed'))")
    pick(opened, 1)
    assert "does not answer" in opened.run("document.getElementById('error').textContent")


def test_only_the_last_of_several_searches_is_shown(opened, page):
    opened.run("for (const place of [0, 1, 2, 3]) document.querySelectorAll('#pictures button')[place].click()")
    assert opened.run("document.getElementById('found').getAttribute('aria-busy')") in ("true", "false")
    opened.wait_for(DONE)
    assert numbers(opened) == [hit["number"] for hit in page.ask("/api/search/query/3").content["hits"]]
    assert opened.run("document.querySelectorAll('#pictures [aria-pressed=true]').length") == 1


def test_busy_is_shown_until_the_answer_comes(opened):
    opened.run(
        "window.asked = []; window.fetchNow = window.fetch; "
        "window.fetch = (...words) => new Promise(done => asked.push(() => done(fetchNow(...words)))); 0"
    )
    opened.run("document.querySelectorAll('#pictures button')[0].click()")
    assert opened.run("document.getElementById('found').getAttribute('aria-busy')") == "true"
    assert opened.run("document.getElementById('status').textContent") == "Searching …"
    opened.run("asked.forEach(go => go())")
    opened.wait_for(DONE)
    assert len(cards(opened)) == 12


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_widths_and_colours(opened, width, dark):
    opened.resize(width, 844, dark)
    pick(opened, 0)
    assert opened.run("document.documentElement.scrollWidth") <= width
    columns = opened.run("new Set([...document.querySelectorAll('.card')].map(card => card.offsetLeft)).size")
    assert columns == 3 if width < 500 else columns > 5
    if width < 500:  # the results come into sight
        assert opened.run("document.getElementById('results-title').getBoundingClientRect().top < innerHeight - 100")
    page, text = (opened.run(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    brightness = [np.mean([int(part) for part in color[4:-1].split(",")]) for color in (page, text)]
    assert (brightness[0] < 60 and brightness[1] > 200) if dark else (brightness[0] > 240 and brightness[1] < 60)


def test_a_dropped_and_a_pasted_image_are_searched(opened, picture):
    buffer = io.BytesIO(picture)
    with Image.open(buffer) as image:
        assert image.format == "PNG"
    content = ",".join(map(str, picture))
    for kind, event in (("drop", "DragEvent"), ("paste", "ClipboardEvent")):
        key = "dataTransfer" if kind == "drop" else "clipboardData"
        opened.run(
            f"(() => {{ const data = new DataTransfer(); data.items.add(new File([new Uint8Array([{content}])], "
            f"'{kind}.png', {{type: 'image/png'}})); "
            f"window.dispatchEvent(new {event}('{kind}', {{{key}: data, cancelable: true}})); }})()"
        )
        opened.wait_for(f"document.getElementById('query-text').textContent === '{kind}.png'")
        opened.wait_for(DONE)
        assert len(cards(opened)) == 12


def test_the_token_leaves_the_address_and_the_page_works(browser, serving):
    guarded = serving("a-token_of_more_than_16")
    browser.errors.clear()
    browser.open(guarded.address)
    browser.wait_for("document.querySelectorAll('#pictures img').length === 4")
    assert browser.run("location.href") == f"http://127.0.0.1:{guarded.port}/"
    assert browser.run("document.cookie") == ""  # HttpOnly
    pick(browser, 0)
    browser.wait_for(IMAGES)
    assert len(cards(browser)) == 12 and browser.errors == []
