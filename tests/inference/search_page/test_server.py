"""Where the page listens, and whom it asks for a token."""

import socket

import pytest

pytest.importorskip("starlette", reason="the search page needs the extra 'search-page' (Starlette and uvicorn)")

from reid_core.inference.search_page.server import bind, is_loopback, make_server, page_address, token_for


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_this_computers_programs_need_no_token(host):
    assert is_loopback(host) and token_for(host, None) is None
    assert token_for(host, "sixteen_letters-") == "sixteen_letters-"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "my-computer", "localhost.evil.example"])
def test_others_need_one_that_nobody_guesses(host):
    tokens = {token_for(host, None) for _ in range(20)}
    assert len(tokens) == 20 and min(map(len, tokens)) >= 43
    assert token_for(host, "sixteen_letters-") == "sixteen_letters-"


@pytest.mark.parametrize(
    "given", ["", "fifteen_letters", "with a space in the middle", "with;semicolons;within", "ä" * 20]
)
def test_a_token_that_is_short_or_does_not_fit_is_refused(given):
    with pytest.raises(ValueError, match="at least 16 letters, digits"):
        token_for("127.0.0.1", given)


def test_an_open_address_without_a_token_is_not_served(searcher):
    with bind("0.0.0.0", 0) as opened, pytest.raises(ValueError, match="needs a token"):
        make_server(searcher, opened, None)


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen at 127.0.0.1, port {port}: .*Choose another --port"):
            bind("127.0.0.1", port)
    with pytest.raises(OSError, match="cannot listen"):
        bind("127.0.0.1", 99999)
    with pytest.raises(OSError, match="cannot listen at not.a.host.invalid"):
        bind("not.a.host.invalid", 0)


def test_the_address_that_is_printed():
    with bind("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        assert page_address(opened, None) == f"http://127.0.0.1:{port}/"
        assert page_address(opened, "secret") == f"http://127.0.0.1:{port}/?token=secret"
    with bind("0.0.0.0", 0) as opened:
        assert page_address(opened, None).startswith(f"http://{socket.gethostname()}:")
