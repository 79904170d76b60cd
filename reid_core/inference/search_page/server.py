"""Serving the page: where it listens, who may come, and until it is stopped."""

import ipaddress
import secrets
import socket
from collections.abc import Sequence

import uvicorn
from starlette.types import ASGIApp

from reid_core.inference.search_page.app import LOOPBACK_NAMES, build_app
from reid_core.inference.search_page.searching import Searcher

_SHORTEST_TOKEN = 16
_CONNECTIONS = 64


def bind(host: str, port: int) -> socket.socket:
    """A socket that has its address but does not listen yet; port 0: a free one. Raises OSError, saying where."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
    except (OSError, OverflowError) as error:
        opened.close()
        raise OSError(
            f"The page cannot listen at {host}, port {port}: {getattr(error, 'strerror', None) or error}. Choose "
            "another --port or --host."
        ) from error
    return opened


def is_loopback(host: str) -> bool:
    """Whether only programs of this computer reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_for(host: str, given: str | None) -> str | None:
    """The token that is asked: the given one, or a new one if others than this computer's programs reach the page.

    Raises ValueError for one that is short, or that does not fit into an address as it stands.
    """
    if given is None:
        return None if is_loopback(host) else secrets.token_urlsafe(32)
    if len(given) < _SHORTEST_TOKEN or not all(c.isascii() and (c.isalnum() or c in "-_") for c in given):
        raise ValueError(f"The token must be at least {_SHORTEST_TOKEN} letters, digits, - or _; leave it out for one.")
    return given


def page_address(opened: socket.socket, token: str | None) -> str:
    """What to open in a browser."""
    host, port = opened.getsockname()[:2]
    host = socket.gethostname() if ipaddress.ip_address(host).is_unspecified else host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"?token={token}" if token else "")


def make_server(
    searcher: Searcher, opened: socket.socket, token: str | None, allowed_hosts: Sequence[str] = ()
) -> uvicorn.Server:
    """A server whose `run(sockets=[opened])` serves until it is stopped. Raises ValueError for an address that others
    reach without a token."""
    host, port = opened.getsockname()[:2]
    if token is None and not is_loopback(host):
        raise ValueError(f"{host} is reached from other computers: the page needs a token there.")
    names = {*LOOPBACK_NAMES, host, *(name.lower().rstrip(".") for name in allowed_hosts)}
    if not is_loopback(host):
        names.add(socket.gethostname().lower())
    # Cookies do not tell ports apart: two pages on one computer would take each other's.
    app: ASGIApp = build_app(searcher, token, names, not is_loopback(host), f"search_page_{port}")
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # addresses may hold the token
        server_header=False,
        proxy_headers=False,  # nobody's word counts for who asks
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def serve(searcher: Searcher, opened: socket.socket, token: str | None, allowed_hosts: Sequence[str] = ()) -> None:
    """Serve until interrupted; KeyboardInterrupt then goes on upward. Raises as `make_server`."""
    with opened:
        make_server(searcher, opened, token, allowed_hosts).run(sockets=[opened])
