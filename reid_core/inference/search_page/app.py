"""The page's addresses. Images are named by number; no path comes from or goes to the browser."""

import re
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from reid_core.inference.search_page.errors import RefusedRequestError
from reid_core.inference.search_page.guard import Guard
from reid_core.inference.search_page.searching import MAX_RESULTS, Filter, Query, Searcher
from reid_core.inference.search_page.uploads import FORMATS, too_large

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_FILES = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}
_AT_ONCE = 4  # requests that hold an upload or a thread; all others wait, holding nothing
_UPLOAD_SECONDS = 60
_SHOWN_QUERIES = 60
_NUMBER = re.compile(r"[0-9]{1,9}")


def build_app(
    searcher: Searcher,
    token: str | None = None,
    hosts: Collection[str] = LOOPBACK_NAMES,
    any_address: bool = False,
    cookie: str = "search_page",
) -> ASGIApp:
    """The ASGI application. hosts, any_address, token, cookie: see `Guard`."""
    page = _Page(searcher)
    source = "{source:str}/{number:str}"
    routes = [
        Route("/", partial(page.file, "page.html")),
        Route("/page.css", partial(page.file, "page.css")),
        Route("/page.js", partial(page.file, "page.js")),
        Route("/api/page", page.facts),
        Route("/api/pictures", page.pictures),
        Route("/api/search", page.search, methods=["POST"]),
        Route(f"/api/search/{source}", page.search),
        Route("/api/attention", page.attention, methods=["POST"]),
        Route(f"/api/attention/{source}", page.attention),
        Route(f"/api/image/{source}", page.image),
    ]
    app = Starlette(
        routes=routes, exception_handlers={HTTPException: _refuse, RefusedRequestError: _refuse, Exception: _fail}
    )
    return Guard(app, hosts, any_address, token, cookie)


class _Page:
    """The answers to the page's requests."""

    def __init__(self, searcher: Searcher):
        self.searcher = searcher
        self.uploads, self.computations, self.images = (anyio.CapacityLimiter(_AT_ONCE) for _ in range(3))
        folder = Path(__file__).parent
        self.files = {name: (folder / name).read_bytes() for name in _FILES}

    async def file(self, name: str, request: Request) -> Response:
        return Response(self.files[name], headers={"Content-Type": _FILES[name]})

    async def facts(self, request: Request) -> Response:
        """What the page needs to know once."""
        searcher, collection = self.searcher, self.searcher.collection
        picked = "query" if len(collection.query) else "gallery"
        cameras = [{"camid": camid, "name": collection.camera(camid)} for camid in collection.gallery_cameras()]
        return JSONResponse(
            {
                "gallery": {"name": collection.name, "images": len(collection.gallery)},
                "cameras": cameras,
                "models": [
                    {"name": name, "attention": attention}
                    for name, attention in zip(searcher.names, searcher.attentive, strict=True)
                ],
                "pick": {"source": picked, "images": len(collection.table(picked))},
                "upload": {
                    "max_bytes": searcher.limits.max_bytes,
                    "types": [f"image/{name.lower()}" for name in FORMATS],
                },
                "max_results": MAX_RESULTS,
            }
        )

    async def pictures(self, request: Request) -> Response:
        """What is known of some images to search with, from `first` on."""
        first, count = _number(request, "first", 0), min(_number(request, "count", 12), _SHOWN_QUERIES)
        source = _source(request.query_params.get("source", "query"))
        collection = self.searcher.collection
        table = collection.table(source)[first : first + count]
        entries = [
            {"number": first + place, "camera": collection.camera(row.camid), "identity": collection.identity(row)}
            for place, row in enumerate(table)
        ]
        return JSONResponse({"pictures": entries})

    async def search(self, request: Request) -> Response:
        """?model, ?count, ?camera (camid), ?own_camera=0; an uploaded image is the body."""
        camera = _number(request, "camera", -1)
        chosen = Filter(None if camera < 0 else camera, own_camera=_number(request, "own_camera", 1) != 0)
        model, count = _number(request, "model", 0), _number(request, "count", 20)
        searcher = self.searcher

        def answer(query: Query) -> Response:
            record, found = searcher.record(query), searcher.search(model, query, count, chosen)
            collection = searcher.collection
            known = {"camera": collection.camera(record.camid), "identity": collection.identity(record)}
            hits = [{**hit._asdict(), "score": round(hit.score, 6)} for hit in found.hits]
            return JSONResponse({"query": known, "hits": hits, "candidates": found.candidates})

        return await self._with_query(request, answer)

    async def attention(self, request: Request) -> Response:
        """?model; the answer is a PNG."""
        model = _number(request, "model", 0)

        def answer(query: Query) -> Response:
            return Response(self.searcher.attention(model, query), media_type="image/png")

        return await self._with_query(request, answer)

    async def image(self, request: Request) -> Response:
        source, number = _source(request.path_params["source"]), _integer(request.path_params["number"])
        content = await anyio.to_thread.run_sync(self.searcher.picture, source, number, limiter=self.images)
        return Response(content, media_type="image/jpeg")

    async def _with_query(self, request: Request, answer: Callable[[Query], Response]) -> Response:
        """Run `answer` in a thread, with what the path names or the body holds."""
        if "source" in request.path_params:
            query = Query(_source(request.path_params["source"]), _integer(request.path_params["number"]))
            return await anyio.to_thread.run_sync(answer, query, limiter=self.computations)
        async with self.uploads:
            query = Query("upload", content=await self._body(request))
            return await anyio.to_thread.run_sync(answer, query, limiter=self.computations)

    async def _body(self, request: Request) -> bytes:
        """The uploaded bytes; of a file that is too large the rest is dropped as it comes, to be able to answer."""
        limits = self.searcher.limits
        parts, size = [], 0
        try:
            with anyio.fail_after(_UPLOAD_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size <= limits.max_bytes:
                        parts.append(part)
                    else:
                        parts.clear()
                    if size > 4 * limits.max_bytes:
                        break
        except TimeoutError:
            raise RefusedRequestError(408, f"The image did not arrive within {_UPLOAD_SECONDS} seconds.") from None
        except ClientDisconnect:
            raise RefusedRequestError(400, "The image did not arrive in whole.") from None
        if size > limits.max_bytes:
            raise too_large(limits)
        return b"".join(parts)


def _number(request: Request, name: str, default: int) -> int:
    values = request.query_params.getlist(name)
    return _integer(values[-1], name) if values else default


def _integer(text: str, name: str = "number") -> int:
    if not _NUMBER.fullmatch(text):
        raise RefusedRequestError(400, f"'{name}' must be a whole number of at least 0.")
    return int(text)


def _source(text: str) -> str:
    if text not in ("query", "gallery"):
        raise RefusedRequestError(404, "Images are those of 'query' or 'gallery'.")
    return text


async def _refuse(request: Request, error: Any) -> Response:
    if isinstance(error, RefusedRequestError):
        return JSONResponse({"error": error.message}, status_code=error.status)
    return JSONResponse({"error": f"{error.detail}."}, status_code=error.status_code, headers=error.headers)


async def _fail(request: Request, error: Exception) -> Response:
    """Starlette raises the error again, and the guard puts it into the log."""
    return JSONResponse({"error": "The server failed at this request; its log says why."}, status_code=500)
