"""Bad input costs one clear message and an exit code, and loses nothing."""

import shutil

import pytest
import torch
from PIL import Image

from reid_core.engine.launch import main
from reid_core.modeling.checkpoint import list_checkpoints
from tests.conftest import write_small_clip, write_small_market


@pytest.fixture
def run(market_config, small_run, capsys):
    """run(*words, **overrides) -> (exit code, what the terminal showed, on one line)."""

    def call(*words, **overrides):
        code = main(["--config-file", market_config, *words, *small_run(**{"SOLVER__MAX_EPOCHS": 1, **overrides})])
        shown = capsys.readouterr()
        return code, " ".join((shown.out + shown.err).split())

    return call


@pytest.fixture
def own_market(tmp_path):
    return write_small_market(tmp_path / "data")


def test_a_missing_root_shows_the_expected_tree(run, tmp_path):
    code, text = run(DATASETS__ROOT=tmp_path / "nowhere")
    assert code == 2
    assert "bounding_box_train" in text
    assert "nowhere" in text
    assert "Traceback" not in text


def test_an_empty_split(run, own_market):
    folder = own_market / "Market-1501-v15.09.15" / "query"
    shutil.rmtree(folder)
    folder.mkdir()
    code, text = run(DATASETS__ROOT=own_market)
    assert code == 2
    assert "query" in text


def test_a_truncated_image_is_named(run, own_market, tmp_path):
    victim = sorted((own_market / "Market-1501-v15.09.15" / "bounding_box_train").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:200])
    for workers in (0, 1):
        code, text = run(DATASETS__ROOT=own_market, DATALOADER__NUM_WORKERS=workers)
        assert code == 2
        assert victim.name in text
        assert "200 bytes" in text
        assert "Traceback" not in text


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_skipped_counted_and_listed_where_that_is_asked_for(run, own_market, tmp_path, workers):
    folder, victims = own_market / "Market-1501-v15.09.15", []
    for split, content in (("bounding_box_train", b""), ("query", b"no picture"), ("bounding_box_test", None)):
        victims.append(sorted((folder / split).iterdir())[2])
        victims[-1].write_bytes(victims[-1].read_bytes()[:200] if content is None else content)
    words = {"DATASETS__ROOT": own_market, "DATALOADER__NUM_WORKERS": workers, "INPUT__ON_BAD_IMAGE": "skip"}
    code, text = run(**words)
    assert code == 0
    for victim in victims:
        assert text.count(victim.name) == 2  # when it is found, and at the end
    assert "1 of its train, 1 of its query, 1 of its gallery images were skipped" in text
    assert "The results of Market1501 are without bad images" in text
    resumed, text = run("--resume", **{**words, "SOLVER__MAX_EPOCHS": 2})
    assert resumed == 0
    code, text = run(**{**words, "INPUT__ON_BAD_IMAGE": "ignore", "OUTPUT_DIR": tmp_path / "other"})
    assert code == 2
    assert "'raise' or 'skip', got 'ignore'" in text


def test_images_that_are_not_rgb_are_converted(run, own_market):
    folder = own_market / "Market-1501-v15.09.15" / "bounding_box_train"
    for path, mode in zip(sorted(folder.iterdir()), ["L", "CMYK"], strict=False):
        Image.open(path).convert(mode).save(path, format="JPEG")
    assert run(DATASETS__ROOT=own_market)[0] == 0


def test_an_identity_with_one_image_is_trained_on(run, own_market):
    folder = own_market / "Market-1501-v15.09.15" / "bounding_box_train"
    for path in sorted(folder.glob("0002_*"))[1:]:
        path.unlink()
    assert run(DATASETS__ROOT=own_market)[0] == 0


def test_fewer_identities_than_the_batch_needs(run):
    code, text = run(DATALOADER__BATCH_SIZE=32)
    assert code == 2
    assert "16" in text
    assert "6" in text


def test_a_batch_that_k_does_not_divide(run):
    code, text = run(DATALOADER__BATCH_SIZE=8, DATALOADER__NUM_INSTANCES=3)
    assert code == 2
    assert "NUM_INSTANCES" in text


def test_a_checkpoint_of_another_architecture(run, tmp_path):
    assert run()[0] == 0
    weights = list_checkpoints(tmp_path / "run")[-1]
    other = write_small_clip(tmp_path / "other.json", width=48)
    code, text = run("--eval-only", MODEL__WEIGHTS=weights, MODEL__BACKBONE__ARCHITECTURE=other)
    assert code == 2
    assert "does not fit the model of the config" in text


def test_a_training_set_that_changed_since_the_checkpoint(run, own_market, tmp_path):
    assert run(DATASETS__ROOT=own_market)[0] == 0
    before = [path.read_bytes() for path in list_checkpoints(tmp_path / "run")]
    sorted((own_market / "Market-1501-v15.09.15" / "bounding_box_train").iterdir())[0].unlink()
    code, text = run("--resume", DATASETS__ROOT=own_market, SOLVER__MAX_EPOCHS=2)
    assert code == 2
    assert "The training set is not the one of" in text
    assert "1" in text
    assert [path.read_bytes() for path in list_checkpoints(tmp_path / "run")] == before


def test_nan_in_the_loss_names_losses_and_images_and_keeps_the_checkpoint(run, tmp_path):
    assert run()[0] == 0
    kept = list_checkpoints(tmp_path / "run")
    before = kept[-1].read_bytes()
    code, text = run("--resume", SOLVER__MAX_EPOCHS=40, SOLVER__BASE_LR="1e20")
    assert code == 2
    assert "NaN or infinity in" in text
    assert "loss_pcl" in text
    assert "_c1s1_" in text
    assert kept[-1].read_bytes() == before


def test_an_earlier_runs_checkpoints_are_not_written_over(run, tmp_path):
    assert run()[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")}
    code, text = run(SEED=2)
    assert code == 2
    assert "--resume" in text
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")} == before


def test_a_typo_in_a_key_and_a_wrong_config_path(run, capsys):
    code, text = run(SOLVER__BASE_LRR=1)
    assert code == 2
    assert "Did you mean 'SOLVER.BASE_LR'?" in text
    assert main(["--config-file", "projects/none.yml"]) == 2
    assert "does not exist" in capsys.readouterr().out


def test_more_gpus_than_there_are(market_config, capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    count = torch.cuda.device_count() + 2
    assert main(["--config-file", market_config, "--num-gpus", str(count)]) == 2
    assert f"--num-gpus {count}" in capsys.readouterr().out


def test_a_cuda_device_that_is_not_there(run):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    code, text = run(DEVICE="cuda")
    assert code == 2
    assert "no CUDA device" in text


def test_a_cut_off_archive_as_weights(run, tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04 not really")
    code, text = run("--eval-only", MODEL__WEIGHTS=tmp_path / "weights.pt")
    assert code == 2
    assert "weights.pt" in text
