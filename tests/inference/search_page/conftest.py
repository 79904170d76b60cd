"""Two small models over the small gallery, and the page served on a port of this computer."""

import http.client
import io
import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import reid_core as reid
from reid_core.data.datasets import Market1501
from reid_core.inference.search_page.collection import collection_of_dataset
from reid_core.inference.search_page.searching import Searcher
from reid_core.inference.search_page.uploads import UploadLimits

LIMITS = UploadLimits(max_bytes=200_000, max_pixels=1_000_000)


@pytest.fixture(scope="session")
def market(checkpoint):
    """The dataset of the trained run."""
    return Market1501(str(checkpoint.parents[1] / "data"))


@pytest.fixture(scope="session")
def collection(market):
    return collection_of_dataset(market)


@pytest.fixture(scope="session")
def models(checkpoint):
    """A trained model, and one of other weights."""
    first, second = (reid.load(checkpoint, device="cpu") for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for parameter in second.model.parameters():
        parameter.data += 0.3 * parameter.data.std().nan_to_num() * torch.randn(parameter.shape, generator=generator)
    return {"first": first, "second": second}


@pytest.fixture(scope="session")
def searcher(models, collection, tmp_path_factory):
    return Searcher(models, collection, tmp_path_factory.mktemp("features"), LIMITS)


@pytest.fixture(scope="session")
def serving(searcher):
    """serving(token=None) -> a running page, one a token: `ask(path, method, headers, body)`, `address`, `port`."""
    pytest.importorskip("starlette", reason="the search page needs the extra 'search-page' (Starlette and uvicorn)")
    from reid_core.inference.search_page.server import bind, make_server, page_address

    running = {}

    def start(token=None):
        if token in running:
            return running[token][0]
        opened = bind("127.0.0.1", 0)
        server = make_server(searcher, opened, token, ["my-computer"])
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = opened.getsockname()[1]
        page = SimpleNamespace(port=port, address=page_address(opened, token), ask=lambda *words: _ask(port, *words))
        running[token] = page, server, thread, opened
        return page

    yield start
    for _, server, thread, opened in running.values():
        server.should_exit = True
        thread.join(20)
        opened.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def page(serving):
    """The page without a token."""
    return serving()


@pytest.fixture(scope="session")
def picture():
    """A picture that is in no dataset, as a PNG."""
    pixels = np.random.default_rng(5).integers(0, 255, (8, 4, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _ask(port, path, method="GET", headers=None, body=None):
    """status, headers, content (parsed if it is JSON); no redirects, the path exactly as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        wanted = {"Host": f"127.0.0.1:{port}", **(headers or {})}
        if body is not None:
            wanted.setdefault("Content-Length", str(len(body)))
        for name, values in wanted.items():
            for value in values if isinstance(values, list) else [values]:
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.headers.get("content-type") == "application/json":
        content = json.loads(content)
    return SimpleNamespace(status=response.status, headers=response.headers, content=content)
