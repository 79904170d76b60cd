"""The Hugging Face hub, as its client sees it: a server in this process."""

import hashlib
import json
import shutil
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import numpy as np
import pytest

import reid_core as reid
from reid_core.inference import hub
from reid_core.inference.hub import is_hub_id
from reid_core.modeling.checkpoint import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def packed(checkpoint, tmp_path_factory):
    return reid.save_model_folder(checkpoint, tmp_path_factory.mktemp("packed") / "model")


@pytest.fixture
def served(packed, tmp_path, monkeypatch):
    """A folder that the hub has as user/name, and the paths that were asked for."""
    folder = shutil.copytree(packed, tmp_path / "served")
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer()

        def answer(self, body=True):
            path = self.path.split("?")[0]
            asked.append(path)
            names = sorted(file.name for file in folder.iterdir())
            if path.startswith("/api/models/user/name/revision/"):
                content = {"id": "user/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
                self.send(json.dumps(content).encode(), body)
            elif path.startswith("/api/models/user/name/tree/"):
                files = [
                    {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": COMMIT}
                    for name in names
                ]
                self.send(json.dumps(files).encode(), body)
            elif path.startswith(f"/user/name/resolve/{COMMIT}/"):
                self.send((folder / path.rsplit("/", 1)[1]).read_bytes(), body)
            else:
                self.send(b"{}", body, 404, {"X-Error-Code": "RepoNotFound"})

        def send(self, content, body, status=200, headers=()):
            self.send_response(status)
            own = {"Content-Length": len(content), "ETag": hashlib.sha1(content).hexdigest(), "X-Repo-Commit": COMMIT}
            for key, value in {**own, **dict(headers)}.items():
                self.send_header(key, str(value))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    download = partial(
        huggingface_hub.snapshot_download,
        endpoint=f"http://127.0.0.1:{server.server_port}",
        cache_dir=tmp_path / "cache",
    )
    monkeypatch.setattr(hub, "snapshot_download", download)
    yield folder, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_is_downloaded_its_known_files_alone(served, packed):
    folder, asked = served
    (folder / "run_me.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    features = reid.load("user/name", device="cpu").encode(IMAGES)
    assert np.array_equal(features, reid.load(packed, device="cpu").encode(IMAGES))
    fetched = {path.rsplit("/", 1)[1] for path in asked if "/resolve/" in path}
    assert fetched == {"model.safetensors", "config.yml", "architecture.json", "metrics.json", "README.md"}


def test_a_repository_of_something_else(served):
    folder, _ = served
    for file in ("model.safetensors", "config.yml"):
        (folder / file).unlink()
    with pytest.raises(OSError, match="is no model folder of this toolkit"):
        reid.load("user/name")


def test_a_name_that_the_hub_does_not_know(served):
    with pytest.raises(OSError, match="no file or folder 'user/gone' here, and the Hugging Face hub") as caught:
        reid.load("user/gone")
    assert "\n" not in str(caught.value)


def test_without_network_the_error_is_one_line(monkeypatch, tmp_path):
    download = partial(huggingface_hub.snapshot_download, endpoint="http://127.0.0.1:9", cache_dir=tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", download)
    with pytest.raises(OSError, match="the Hugging Face hub did not give a model") as caught:
        reid.load("user/name")
    assert "\n" not in str(caught.value)


def test_a_folder_is_pushed_its_known_files_alone(packed, tmp_path, monkeypatch):
    calls = []

    class Api:
        def __init__(self, token):
            calls.append(("token", token))

        def create_repo(self, repo_id, private, exist_ok):
            calls.append(("create", repo_id, private, exist_ok))
            return f"https://huggingface.co/{repo_id}"

        def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
            calls.append(("upload", repo_id, folder_path, sorted(allow_patterns)))

    monkeypatch.setattr(hub, "HfApi", Api)
    assert reid.push_model_folder(packed, "user/name", token="t") == "https://huggingface.co/user/name"
    files = ["README.md", "architecture.json", "config.yml", "metrics.json", "model.safetensors"]
    assert calls == [("token", "t"), ("create", "user/name", True, True), ("upload", "user/name", packed, files)]
    with pytest.raises(CheckpointError, match="is no model folder"):
        reid.push_model_folder(tmp_path, "user/name")


def test_a_refused_push_is_one_line(packed, monkeypatch):
    monkeypatch.setattr(hub, "HfApi", partial(huggingface_hub.HfApi, endpoint="http://127.0.0.1:9"))
    with pytest.raises(OSError, match="was not uploaded to user/name: ") as caught:
        reid.push_model_folder(packed, "user/name", token="t")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [("user/name", True), ("a-b/c.d_e", True), ("name", False), ("/a/b", False), ("a/b/c", False), ("../b", False),
     ("run/best.pt", False), ("run/model.safetensors", False)],
)  # fmt: skip
def test_names_of_the_hub(source, expected):
    assert is_hub_id(source) is expected
