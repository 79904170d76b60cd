"""The commands one after the other, as a user types them; numbers against those of the library."""

import csv
import json
import pkgutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

import reid_core as reid
from reid_core import commands
from reid_core.commands import evaluate_features, extract_features, gallery
from reid_core.data.feature_files import FeatureColumns, open_features, write_features
from reid_core.evaluation import evaluate
from tests.paths import ROOT

pytestmark = pytest.mark.usefixtures("logger_as_it_was")

PATTERN = "(?P<pid>[0-9]+)_c(?P<camid>[0-9])"


@pytest.fixture(scope="module")
def extracted(checkpoint, tmp_path_factory):
    """Feature files of the small set's query and gallery images, by the command."""
    folder, data = tmp_path_factory.mktemp("extracted"), checkpoint.parents[1] / "data" / "Market-1501-v15.09.15"
    for side, images in (("query", "query"), ("gallery", "bounding_box_test")):
        words = [str(checkpoint), str(data / images), str(folder / f"{side}.parquet"), "--pattern", PATTERN]
        assert extract_features.main([*words, "--device", "cpu", "--shard-size", "5"]) == 0
    return folder


def run(command, *words):
    return command.main([str(word) for word in words])


def test_extract_build_query_and_info(checkpoint, extracted, tmp_path, capsys):
    folder, image = tmp_path / "gallery", next((checkpoint.parents[1] / "data").rglob("query/*.jpg"))
    assert run(gallery, "build", folder, extracted / "gallery.parquet") == 0
    capsys.readouterr()
    assert (
        run(gallery, "query", folder, image, "--model", checkpoint, "--device", "cpu", "-k", 3, "--format", "jsonl")
        == 0
    )
    row = json.loads(capsys.readouterr().out)
    paths = open_features(extracted / "gallery.parquet").read(["path"])["path"]
    features = reid.load(checkpoint, device="cpu").encode([image, *paths])
    order = np.argsort(1 - features[1:] @ features[0], kind="stable")[:3]
    assert row["query"] == str(image)
    assert [hit["path"] for hit in row["hits"]] == [paths[place] for place in order]
    assert [hit["rank"] for hit in row["hits"]] == [1, 2, 3]

    words = ("query", folder, "--features", extracted / "query.parquet", "-k", 5, "--same-camera-rule")
    assert run(gallery, *words, "--output", tmp_path / "hits.jsonl", "--format", "jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "hits.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and {hit["camid"] for row in rows for hit in row["hits"]} == {2}
    capsys.readouterr()
    assert run(gallery, *words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["query", "rank", "distance", "id", "path", "pid", "camid"]
    assert len(shown) == 1 + 4 * 5

    assert run(gallery, "remove", folder, "--paths", paths[0]) == 0
    assert run(gallery, "add", folder, extracted / "query.parquet") == 0
    capsys.readouterr()
    assert run(gallery, "info", folder) == 0
    shown = capsys.readouterr().out
    assert "images      15\n" in shown and "identities  4\n" in shown and "cameras     1 (7), 2 (8)\n" in shown


def test_evaluate_gives_the_librarys_numbers(extracted, tmp_path, capsys):
    rng = np.random.default_rng(0)
    sides = {}
    for side, count, ending in (("query", 20, ".npz"), ("gallery", 60, ".parquet")):
        columns = {"pid": rng.integers(0, 6, count), "camid": rng.integers(0, 3, count),
                   "feature": rng.normal(size=(count, 4)).astype(np.float32)}  # fmt: skip
        sides[side] = columns
        write_features(tmp_path / f"{side}{ending}", FeatureColumns(columns))
    files = tmp_path / "query.npz", tmp_path / "gallery.parquet"
    more = ("--ranks", 1, 3, "--json", tmp_path / "r.json", "--per-query", tmp_path / "q.csv", "--rerank", "--k1", 4)
    assert run(evaluate_features, *files, "--metric", "euclidean", "--query-expansion", *more) == 0
    expected = evaluate(
        *(sides[side][name] for name in ("feature", "pid", "camid") for side in ("query", "gallery")),
        metric="euclidean", per_query=True,
    )  # fmt: skip
    written = json.loads((tmp_path / "r.json").read_text())
    assert {name: written[name] for name in ("mAP", "mINP", "rank1", "rank3")} == expected.percentages([1, 3])
    assert "expanded+reranked/mAP" in written
    assert f"| {expected.mAP * 100:.1f}" in capsys.readouterr().out.replace("  ", " ")
    rows = list(csv.DictReader((tmp_path / "q.csv").open()))
    assert [float(row["AP"]) for row in rows] == (100 * expected.per_query.average_precision).tolist()
    assert [int(row["pid"]) for row in rows] == sides["query"]["pid"].tolist()

    merged = {name: np.concatenate([sides["query"][name], sides["gallery"][name]]) for name in sides["query"]}
    merged |= {"pid": [f"p{pid}" for pid in merged["pid"]], "split": ["query"] * 20 + ["gallery"] * 60}
    write_features(tmp_path / "all.npz", FeatureColumns(merged))
    words = (tmp_path / "all.npz", tmp_path / "all.npz", "--metric", "euclidean", "--json", tmp_path / "s.json")
    assert run(evaluate_features, *words) == 0
    assert json.loads((tmp_path / "s.json").read_text())["mAP"] == written["mAP"]


def test_evaluating_what_was_extracted(extracted, capsys):
    assert run(evaluate_features, extracted / "query.parquet", extracted / "gallery.parquet") == 0
    assert capsys.readouterr().out.startswith("| dataset ")


def _without(extracted, folder, name):
    table = open_features(extracted / "query.parquet")
    columns = table.read([column for column in table.types if column != name])
    write_features(folder / f"no_{name}.npz", FeatureColumns(columns))
    return folder / f"no_{name}.npz"


def test_what_is_wrong_is_said_in_one_line_with_code_2(checkpoint, extracted, tmp_path, capsys):
    query, folder = extracted / "query.parquet", tmp_path / "gallery"
    (tmp_path / "text.npz").write_text("text")
    assert run(gallery, "build", folder, query) == 0
    cases = [
        (evaluate_features, (query, tmp_path / "gone.npz"), "no feature file"),
        (evaluate_features, (query, tmp_path / "text.npz"), "text.npz is not readable as NPZ"),
        (evaluate_features, (query, _without(extracted, tmp_path, "pid")), "no column 'pid'"),
        (evaluate_features, (query, _without(extracted, tmp_path, "camid")), "no column 'camid'"),
        (evaluate_features, (query, query, "--ranks", "0"), "CMC ranks count from 1"),
        (evaluate_features, (query, query, "--rerank", "--k1", "0"), "RERANK_K1"),
        (gallery, ("build", folder, query), "holds a gallery already"),
        (gallery, ("info", tmp_path / "gone"), "no gallery index"),
        (gallery, ("add", tmp_path / "gone", query), "no gallery in"),
        (gallery, ("query", folder), "either images"),
        (gallery, ("query", folder, tmp_path), "need --model"),
        (gallery, ("query", folder, "--features", query, "--only-cameras", "9"), "has no camera '9'; it has 1"),
        (gallery, ("query", folder, "--features", query, "--after", "3", "--before", "2"), "first <= last"),
        (gallery, ("query", folder, "--features", _wide(tmp_path)), "width 3, the index 48"),
        (gallery, ("remove", folder, "--ids", "99"), "1 ids are not in the index"),
        (extract_features, (checkpoint, tmp_path / "gone", tmp_path / "f.npz"), "neither a folder nor a list"),
        (extract_features, (checkpoint, tmp_path, tmp_path / "f.csv"), "must end in one of"),
        (extract_features, (tmp_path / "text.npz", query.parent, tmp_path / "f.npz"), "holds no image"),
        (extract_features, (checkpoint, query, tmp_path / "f.npz", "--pattern", "x"), "--pattern is for folders"),
        (
            extract_features,
            (checkpoint, query, tmp_path / "f.npz", "--boxes", query, "--pattern", "x"),
            "not for the boxes",
        ),
    ]
    for command, words, text in cases:
        capsys.readouterr()
        assert run(command, *words) == 2, text
        shown = capsys.readouterr()
        assert text in shown.err and "Traceback" not in shown.err, shown.err
        assert not shown.out
    assert not (tmp_path / "gone").exists()


def _wide(folder):
    write_features(folder / "wide.npz", FeatureColumns({"feature": np.ones((2, 3), np.float32)}))
    return folder / "wide.npz"


def test_the_installed_commands_are_those_of_the_package_and_of_tools():
    installed = {entry.value for entry in entry_points(group="console_scripts") if entry.name.startswith("reid-")}
    if "reid_core.commands.demo:main" not in installed:
        pytest.skip("installed before these commands were there: pip install -e . again")
    tools = {path.stem for path in (ROOT / "tools").glob("*.py")} - {"train_net"}
    modules = {module.name for module in pkgutil.iter_modules(commands.__path__)} - {"running"}
    assert tools == modules
    assert installed == {"reid_core.engine.launch:console"} | {f"reid_core.commands.{name}:main" for name in tools}


def test_an_installed_command_runs_from_another_folder(extracted, tmp_path, subprocess_environment):
    script = Path(sys.executable).with_name("reid-evaluate")
    if not script.exists():
        pytest.skip("installed before these commands were there: pip install -e . again")
    words = [str(script), str(extracted / "query.parquet"), str(extracted / "gallery.parquet")]
    done = subprocess.run(words, cwd=tmp_path, env=subprocess_environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| dataset ") and "query" in done.stdout


def test_two_processes_through_torchrun(checkpoint, extracted, tmp_path, subprocess_environment):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    images = checkpoint.parents[1] / "data" / "Market-1501-v15.09.15" / "bounding_box_test"
    words = [str(ROOT / "tools" / "extract_features.py"), str(checkpoint), str(images), str(tmp_path / "f.parquet")]
    done = subprocess.run(
        [sys.executable, *launcher, *words, "--pattern", PATTERN, "--device", "cpu", "--shard-size", "5"],
        env=subprocess_environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("features [12, 48]") == 1  # one process speaks
    assert (tmp_path / "f.parquet").read_bytes() == (extracted / "gallery.parquet").read_bytes()
