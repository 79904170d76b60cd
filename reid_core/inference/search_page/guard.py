"""What every request passes before the page sees it, and every answer on its way out.

The page is for one person at one computer. Other web sites open in the same browser can send requests to it, too:
they are told apart by the Host header (a name that was made to point here, DNS rebinding), by Origin and
Sec-Fetch-Site (forms, scripts and pictures of other pages), and the answers forbid to be embedded.
"""

import hmac
import ipaddress
import json
import re
from collections.abc import Collection
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reid_core.inference.search_page.errors import RefusedRequestError
from reid_core.utils.logging import get_logger

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",  # pictures of people do not stay behind in the browser's cache
}
_READING = ("GET", "HEAD")
_HOST = re.compile(r"(?:(?P<name>[a-z0-9._-]+)|\[(?P<address>[0-9a-f:.]+)\])(?::[0-9]{1,5})?")


class Guard:
    """ASGI middleware: refuses, catches, and adds HEADERS to every answer.

    hosts: names that the Host header may have, lower case, without a port. any_address: also every numeric address
    (nobody can make one point elsewhere). token: asked of every request, as `Authorization: Bearer`, as the cookie
    `cookie`, or once as `?token=` of the page itself, which sets the cookie; None: no token.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], any_address: bool, token: str | None, cookie: str):
        self.app, self.hosts, self.any_address = app, frozenset(hosts), any_address
        self.token, self.cookie = token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        extra = dict(HEADERS)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in extra.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        try:
            extra.update(self._check(scope))
            await self.app(scope, receive, send_guarded)
        except RefusedRequestError as error:
            await send_error(send_guarded, error)
        except Exception:
            get_logger().exception("A request to %s failed.", scope["path"])  # answered already, without its text

    def _check(self, scope: Scope) -> dict[str, str]:
        """Headers to add to the answer (the cookie). Raises RefusedRequestError."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._knows(hosts[0]):
            raise RefusedRequestError(
                421, "This name of the server is not known to it: use the address that it printed, or --allow-host."
            )
        page_itself = scope["method"] in _READING and scope["path"] == "/"
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        origin = headers.get("origin", f"http://{hosts[0]}").partition("://")[2]  # of https where a proxy speaks it
        if (foreign or origin.lower() != hosts[0].lower()) and not page_itself:
            raise RefusedRequestError(403, "Requests of other web sites are refused.")
        if self.token is None:
            return {}
        if self._is_token(_bearer(headers)) or self._is_token(self._cookie(headers)):
            return {}
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0] if page_itself else ""
        if self._is_token(given):
            return {"Set-Cookie": f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"}
        raise RefusedRequestError(401, "This page asks for its token: open the address that the server printed.")

    def _knows(self, host: str) -> bool:
        found = _HOST.fullmatch(host.lower())
        if found is None:
            return False
        name = (found["name"] or found["address"]).rstrip(".")
        return name in self.hosts or (self.any_address and _is_address(name))

    def _is_token(self, given: str) -> bool:
        """In a time that tells nothing of where they differ."""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _cookie(self, headers: Headers) -> str:
        return cookie_parser(headers.get("cookie", "")).get(self.cookie, "")


async def send_error(send: Send, error: RefusedRequestError) -> None:
    """The answer {"error": one line} with the error's status."""
    body = json.dumps({"error": error.message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _bearer(headers: Headers) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
