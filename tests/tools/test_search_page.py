"""The command in this process: what it serves, and its exit codes."""

import sys

import numpy as np
import pytest
from PIL import Image

from reid_core.commands.search_page import main
from reid_core.engine.launch import main as train
from reid_core.inference import search_page
from tests.conftest import SMALL_RUN

pytestmark = pytest.mark.usefixtures("logger_as_it_was")


@pytest.fixture(scope="module")
def model(small_market, small_clip, market_config, tmp_path_factory):
    """A checkpoint that was hardly trained."""
    folder = tmp_path_factory.mktemp("run")
    keys = {**SMALL_RUN, "SOLVER.MAX_EPOCHS": 1, "SOLVER.ITERATIONS_PER_EPOCH": 1, "DATASETS.ROOT": small_market}
    keys |= {"MODEL.BACKBONE.ARCHITECTURE": small_clip, "OUTPUT_DIR": folder}
    assert train(["--config-file", market_config, *(str(word) for pair in keys.items() for word in pair)]) == 0
    return folder / "best.pt"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run(*words) -> the exit code; nothing is served, what would be is in `run.served`."""
    server = pytest.importorskip("reid_core.inference.search_page.server", reason="needs the extra 'search-page'")

    def run(*words):
        return main([str(word) for word in words])

    run.served = []
    monkeypatch.setattr(server, "serve", lambda *arguments: run.served.append(arguments))
    monkeypatch.delenv("SEARCH_PAGE_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    yield run
    for _, opened, *_ in run.served:
        opened.close()


def test_a_dataset_is_served_here_without_a_token(run, model, small_market, tmp_path, capsys):
    words = ["--model", model, "--gallery", "Market1501", "--port", 0, "DATASETS.ROOT", small_market]
    assert run(*words) == 0
    (searcher, opened, token, hosts) = run.served[0]
    assert searcher.collection.name == "Market1501" and len(searcher.collection.gallery) == 12
    assert (token, hosts, opened.getsockname()[0]) == (None, [], "127.0.0.1")
    assert f"The page is at http://127.0.0.1:{opened.getsockname()[1]}/ (" in capsys.readouterr().out
    assert len(list((tmp_path / "output" / "search_page").iterdir())) == 1


def test_a_folder_is_served_to_others_with_a_token(run, model, tmp_path, monkeypatch, capsys):
    (tmp_path / "crops").mkdir()
    Image.fromarray(np.zeros((8, 4, 3), np.uint8)).save(tmp_path / "crops" / "a.png")
    words = ["--model", model, "--images", tmp_path / "crops", "--port", 0, "--allow-host", "my-computer"]
    assert run(*words, "--host", "0.0.0.0") == 0
    monkeypatch.setenv("SEARCH_PAGE_TOKEN", "a-token-of-the-environment")
    assert run(*words) == 0
    tokens = [served[2] for served in run.served]
    assert len(tokens[0]) > 40 and tokens[1] == "a-token-of-the-environment"
    shown = capsys.readouterr().out
    assert all(shown.count(f"/?token={token}") == 1 for token in tokens)
    assert run.served[0][3] == ["my-computer"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "gone.pt", "--gallery", "Market1501"], "gone.pt"),
        (["--model", "MODEL", "--gallery", "Market1500"], "Did you mean 'Market1501'"),
        (["--model", "MODEL", "--images", "gone"], "There is no folder gone"),
        (["--model", "MODEL", "--model", "MODEL", "--images", "."], "each once"),
        (["--model", "MODEL", "--images", ".", "--token", "short"], "at least 16"),
        (["--model", "MODEL", "--images", ".", "--precision", "float8"], "float8"),
    ],
)
def test_a_users_error_ends_with_code_2(run, model, capsys, words, message):
    assert run("--port", "0", *(model if word == "MODEL" else word for word in words)) == 2
    assert run.served == [] and message in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_get_it(monkeypatch, capsys):
    module = "reid_core.inference.search_page.server"
    monkeypatch.delattr(search_page, "server", raising=False)
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["--model", "a.pt", "--images", "."]) == 2
    assert "The search page needs uvicorn: pip install -e '.[search-page]'" in capsys.readouterr().err
