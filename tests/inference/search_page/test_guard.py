"""Who may ask: hosts, other web sites, the token; and what every answer says to the browser."""

import http.client
import time

import pytest

TOKEN = "a-token_of_more_than_16"


@pytest.fixture(scope="module")
def guarded(serving):
    return serving(TOKEN)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:1", 200),
        ("LOCALHOST:8000", 200),
        ("localhost.", 200),
        ("[::1]:8000", 200),
        ("my-computer:8000", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8000", 421),
        ("192.168.0.7", 421),
        ("evil.example@localhost", 421),
        ("localhost/", 421),
        ("", 421),
        (["localhost", "evil.example"], 421),
        (["localhost", "localhost"], 421),
    ],
)
def test_hosts(page, host, status):
    for path in ("/", "/api/page", "/api/image/gallery/0"):
        answer = page.ask(path, "GET", {"Host": host})
        assert answer.status in (status, 400 if status == 421 else status)  # two Hosts: the HTTP parser's own answer
    assert status == 200 or b"Market1501" not in str(answer.content).encode()


def test_every_numeric_address_where_others_may_come():
    pytest.importorskip("starlette")
    from reid_core.inference.search_page.guard import Guard

    open_guard = Guard(None, ("localhost",), True, TOKEN, "c")
    assert all(map(open_guard._knows, ("10.0.0.7:80", "[2001:db8::1]:80", "localhost")))
    assert not any(map(open_guard._knows, ("evil.example", "10.0.0.7.evil.example", "[evil]", "10.0.0", "[::1")))


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[broken"},
    ],
)
def test_other_sites_get_nothing_but_the_empty_page(page, picture, headers):
    assert page.ask("/", "GET", headers).status == 200
    for path in ("/page.js", "/api/page", "/api/image/gallery/0"):
        assert page.ask(path, "GET", headers).status == 403
    assert page.ask("/api/search", "POST", headers, picture).status == 403


def test_the_page_itself_may_ask(page, picture):
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": f"http://127.0.0.1:{page.port}"}
    assert page.ask("/api/page", "GET", headers).status == 200
    assert page.ask("/api/search", "POST", headers, picture).status == 200


def test_without_the_token_nothing_is_told(guarded, picture):
    paths = ["/", "/page.js", "/page.css", "/api/page", "/api/image/gallery/0", "/api/search/query/0", "/nothing"]
    wrong = [
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"search_page={TOKEN}"},
        {"Cookie": f"search_page_{guarded.port}="},
        {"Authorization": "Bearer \xff\xfe"},
    ]
    for path in paths:
        for headers in wrong:
            answer = guarded.ask(path, "GET", headers)
            assert answer.status == 401 and list(answer.content) == ["error"]
            assert "set-cookie" not in answer.headers
    assert guarded.ask("/api/search", "POST", {}, picture).status == 401
    assert guarded.ask(f"/api/page?token={TOKEN}").status == 401  # the address of the page only


def test_the_token_opens_by_header_and_by_the_cookie_that_the_address_sets(guarded):
    assert guarded.ask("/api/page", "GET", {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert guarded.ask("/?token=wrong").status == 401
    assert guarded.address.endswith(f"/?token={TOKEN}")
    first = guarded.ask(f"/?token={TOKEN}")
    cookie, *attributes = first.headers["set-cookie"].split("; ")
    assert first.status == 200 and set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert cookie == f"search_page_{guarded.port}={TOKEN}"
    second = guarded.ask("/api/page", "GET", {"Cookie": f'odd={{"a": 1}}; {cookie}; another="'})
    assert second.status == 200 and "set-cookie" not in second.headers


def test_without_a_token_no_cookie_is_set(page):
    assert "set-cookie" not in page.ask("/?token=anything").headers


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/api/page", "/api/image/gallery/0", "/nothing", "/api/search/query/99"]
)
def test_every_answer_forbids_what_the_page_does_not_need(page, path):
    headers = page.ask(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "no-referrer"
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert "server" not in headers and len(headers.get_all("x-content-type-options")) == 1


def test_an_error_of_the_server_is_one_line_and_in_the_log(page, searcher, monkeypatch, caplog):
    def broken(*arguments):
        raise RuntimeError("a secret path")

    monkeypatch.setattr(searcher, "search", broken)
    answer = page.ask("/api/search/query/0")
    assert answer.status == 500 and answer.content == {"error": "The server failed at this request; its log says why."}
    deadline = time.monotonic() + 10  # it is logged behind the answer
    while "a secret path" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "a secret path" in caplog.text and "nosniff" in answer.headers["x-content-type-options"]


def test_what_is_no_http_ends_the_connection_only(page):
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    connection.connect()
    connection.sock.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    assert b"Traceback" not in connection.sock.recv(4096)
    connection.close()
    assert page.ask("/api/page").status == 200
