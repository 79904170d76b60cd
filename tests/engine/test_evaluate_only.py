"""--eval-only: the same numbers as after training; checkpoints of other identities and other input sizes."""

import json

import pytest

from reid_core.engine.launch import main
from tests.conftest import write_small_market


@pytest.fixture
def trained(market_config, small_run, tmp_path):
    assert main(["--config-file", market_config, *small_run()]) == 0
    return tmp_path / "run" / "best.pt"


def _evaluate(capsys, config, words):
    capsys.readouterr()
    code = main(["--config-file", str(config), "--eval-only", *words])
    return code, " ".join(capsys.readouterr().out.split())


def test_the_same_numbers_as_training_ended_with(trained, tmp_path, capsys):
    code, text = _evaluate(capsys, tmp_path / "run" / "config.yaml", ["MODEL.WEIGHTS", str(trained)])
    assert code == 0
    written = [json.loads((tmp_path / "run" / name).read_text()) for name in ("metrics.json", "eval_metrics.json")]
    assert written[0] == written[1]
    assert "Left out heads.classifier.weight, memory.prototypes" in text


def test_another_input_size_resizes_the_positions_and_says_so(trained, market_config, small_run, capsys):
    words = small_run(INPUT__SIZE_TRAIN="[96, 48]", INPUT__SIZE_TEST="[96, 48]", MODEL__WEIGHTS=trained)
    code, text = _evaluate(capsys, market_config, words)
    assert code == 0
    assert "position" in text
    assert "resized" in text.lower()


def test_training_on_other_identities_starts_from_the_rest(trained, market_config, small_run, tmp_path, capsys):
    data = write_small_market(tmp_path / "other", train_identities=5)
    words = small_run(DATASETS__ROOT=data, MODEL__WEIGHTS=trained, OUTPUT_DIR=tmp_path / "tuned", SOLVER__MAX_EPOCHS=1)
    assert main(["--config-file", market_config, *words]) == 0
    assert "Left out heads.classifier.weight, memory.prototypes" in " ".join(capsys.readouterr().out.split())


def test_an_untrained_model_can_be_evaluated_and_is_called_so(market_config, small_run, capsys):
    code, text = _evaluate(capsys, market_config, small_run())
    assert code == 0
    assert "untrained" in text


def test_per_query_results_on_request(trained, market_config, small_run, tmp_path, capsys):
    code, _ = _evaluate(capsys, market_config, small_run(MODEL__WEIGHTS=trained, TEST__PER_QUERY=True))
    assert code == 0
    kept = json.loads((tmp_path / "run" / "eval_metrics.json").read_text())["Market1501"]["per_query"]
    assert len(kept["AP"]) == 4


def test_cameras_without_training_images_are_a_warning(market_config, small_run, tmp_path, capsys):
    data = write_small_market(tmp_path / "other")
    folder = data / "Market-1501-v15.09.15" / "bounding_box_test"
    picture = sorted(folder.iterdir())[0]
    picture.rename(folder / picture.name.replace("_c1", "_c7").replace("_c2", "_c7"))
    words = small_run(MODEL__BACKBONE__SIE_CAMERA=True, DATASETS__ROOT=data, SOLVER__MAX_EPOCHS=1)
    assert main(["--config-file", market_config, *words]) == 0
    assert "5 of 7 cameras are in no training image" in " ".join(capsys.readouterr().out.split())


def test_a_test_set_with_more_cameras_than_side_information_has(market_config, small_run, tmp_path, capsys):
    words = {"MODEL__BACKBONE__SIE_CAMERA": True}
    assert main(["--config-file", market_config, *small_run(**words)]) == 0
    data = write_small_market(tmp_path / "other")
    folder = data / "Market-1501-v15.09.15" / "bounding_box_test"
    picture = sorted(folder.iterdir())[0]
    picture.rename(folder / picture.name.replace("_c1", "_c7").replace("_c2", "_c7"))
    words = small_run(**words, DATASETS__ROOT=data, MODEL__WEIGHTS=tmp_path / "run" / "best.pt")
    code, text = _evaluate(capsys, market_config, words)
    assert code == 2
    assert "Market1501 has 7 cameras, the model's side information was trained for 2" in text
    assert _evaluate(capsys, market_config, [*words, "TEST.SIDE_INFORMATION", "False"])[0] == 0
