"""The command in this process: what it writes, and its exit codes."""

import json

import numpy as np
import pytest

from reid_core.commands.visualize import main
from reid_core.data.feature_files import FeatureColumns, write_features

pytestmark = pytest.mark.usefixtures("logger_as_it_was")


def test_curves(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "iteration": 9, "mAP": 50.0}))
    output = tmp_path / "new" / "curves.png"
    words = ["curves", str(tmp_path / "a"), str(tmp_path / "b"), "--metric", "mAP", "--over", "step"]
    assert main([*words, "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert output.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("ending", ["npz", "parquet", "h5"])
def test_features(tmp_path, capsys, ending):
    if ending == "h5":
        pytest.importorskip("h5py", reason="needs the extra 'hdf5'")
    for name, count in (("q", 4), ("g", 12)):
        pids = np.arange(count) % 4
        features = np.eye(4)[pids] + 0.1 * np.random.default_rng(count).standard_normal((count, 4))
        columns = {"feature": features.astype(np.float32), "pid": pids}
        write_features(tmp_path / f"{name}.{ending}", FeatureColumns(columns))
    files = ["--query", str(tmp_path / f"q.{ending}"), "--gallery", str(tmp_path / f"g.{ending}")]
    assert main(["features", *files, "--metric", "cosine", "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'report.html'}\n"
    assert "cosine distance" in (tmp_path / "out" / "report.html").read_text()


def test_evaluation(market_config, small_run, tmp_path, capsys):
    words = ["evaluation", "--config-file", market_config, "--queries", "1", "--output", str(tmp_path / "out")]
    assert main([*words, *small_run()]) == 0
    assert (tmp_path / "out" / "attention.png").is_file()
    assert (tmp_path / "out" / "report.html").read_text().count('class="ranked"') == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["curves", "gone"], "gone does not exist: name the OUTPUT_DIR"),
        (["features", "--query", "q.npz", "--gallery", "g.npz", "--output", "o"], "There is no feature file q.npz"),
        (["evaluation"], "Name the checkpoint by MODEL.WEIGHTS"),
        (["evaluation", "--identities", "99", "MODEL.WEIGHTS", "x.pt"], "number of identities must be from 1 to 77"),
        (["evaluation", "MODEL.WEIGHTS", "x.pt"], "There is no checkpoint x.pt"),
    ],
)
def test_a_users_error_ends_with_code_2(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [[], ["evaluation"], ["features"], ["curves"]])
def test_help_has_examples(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and "example" in shown
    assert {"evaluation": "MODEL.WEIGHTS output/run/best.pt", "features": "--gallery gallery.parquet"}.get(
        words[0] if words else "evaluation", "output/run_a output/run_b"
    ) in shown
