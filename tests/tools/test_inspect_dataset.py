"""The command in this process: what it prints, and its exit codes."""

import pytest

from reid_core.commands.inspect_dataset import main

pytestmark = pytest.mark.usefixtures("logger_as_it_was")


def test_a_dataset_with_a_broken_file(small_market, tmp_path, capsys):
    copy = tmp_path / "Market-1501-v15.09.15"
    copy.mkdir()
    for folder in (small_market / copy.name).iterdir():
        (copy / folder.name).mkdir()
        for image in folder.iterdir():
            (copy / folder.name / image.name).symlink_to(image)
    broken = sorted((copy / "query").iterdir())[0]
    broken.unlink()
    broken.write_bytes(b"not an image")
    words = ["--dataset", "Market1501", "--contact-sheet", str(tmp_path / "sheet.png"), "DATASETS.ROOT", str(tmp_path)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "| train   | 24       | 6 " in shown and "1 images cannot be used:" in shown and broken.name in shown
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "Market1500"], "Did you mean 'Market1501'"),
        (["--dataset", "Manifest:gone.csv"], "gone.csv does not exist"),
        (["--dataset", "Market1501", "DATASETS.ROT", "x"], "Did you mean 'DATASETS.ROOT'"),
    ],
)
def test_a_users_error_ends_with_code_2(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and "--dataset Manifest:shop/crops.csv" in capsys.readouterr().out
