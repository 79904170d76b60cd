"""--eval-only: the same numbers as after training; checkpoints of other identities and other input sizes."""

import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_core.config import ConfigError
from reid_core.engine import evaluate_only
from reid_core.engine.launch import main
from reid_core.engine.test_sets import TestSets
from reid_core.evaluation import ReIDEvaluator
from reid_core.modeling.checkpoint import save_checkpoint
from reid_core.projects import load_config
from tests.conftest import write_small_clip, write_small_market


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


def test_reranked_and_expanded_scores_are_seen_in_table_files_and_metrics(market_config, small_run, tmp_path, capsys):
    words = small_run(TEST__RERANK=True, TEST__RERANK_K1=4, TEST__QUERY_EXPANSION=True, TEST__PERIOD=1)
    assert main(["--config-file", market_config, *words]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum("expanded+reranked/mAP" in line and "mAP" in line for line in lines) == 2
    weights = ["MODEL.WEIGHTS", str(tmp_path / "run" / "best.pt")]
    code, text = _evaluate(capsys, tmp_path / "run" / "config.yaml", [*weights, "TEST.QUERY_EXPANSION", "False"])
    assert code == 0
    assert "| Market1501 | " in text and "| Market1501, reranked | " in text
    written = json.loads((tmp_path / "run" / "eval_metrics.json").read_text())["Market1501"]
    assert {"mAP", "reranked/mAP"} <= set(written) and "expanded/mAP" not in written
    code, text = _evaluate(capsys, tmp_path / "run" / "config.yaml", [*weights, "TEST.RERANK_K2", "0"])
    assert code == 2 and "TEST.RERANK_K2 must be positive" in text


@pytest.fixture
def scored(monkeypatch):
    """The features that the evaluator was given, a pair of arrays for each call."""
    seen = []
    whole = ReIDEvaluator.evaluate
    monkeypatch.setattr(
        ReIDEvaluator, "evaluate", lambda self, *features: (seen.append(features), whole(self, *features))[1]
    )
    return seen


def test_flipped_images_change_the_features(trained, market_config, small_run, scored, capsys):
    for flip in (False, True):
        assert _evaluate(capsys, market_config, small_run(MODEL__WEIGHTS=trained, TEST__FLIP=flip))[0] == 0
    plain, flipped = scored[-2:]
    assert plain[0].shape == flipped[0].shape and not torch.allclose(plain[0], flipped[0])


def unit(rows):
    return torch.nn.functional.normalize(rows.double(), dim=1).numpy()


@pytest.fixture
def second(trained, market_config, small_run, tmp_path):
    """A checkpoint of another architecture and input size."""
    words = small_run(
        MODEL__BACKBONE__ARCHITECTURE=write_small_clip(tmp_path / "wide.json", width=48),
        INPUT__SIZE_TRAIN="[96, 48]",
        INPUT__SIZE_TEST="[96, 48]",
        OUTPUT_DIR=tmp_path / "second",
        SOLVER__MAX_EPOCHS=1,
    )
    assert main(["--config-file", market_config, *words]) == 0
    return tmp_path / "second" / "best.pt"


def test_checkpoints_of_two_architectures_are_concatenated(
    trained, second, market_config, small_run, tmp_path, scored, capsys, monkeypatch
):
    alone = []
    for folder, path in (("run", trained), ("second", second)):
        words = ["MODEL.WEIGHTS", str(path), "OUTPUT_DIR", str(tmp_path / "alone")]
        assert _evaluate(capsys, tmp_path / folder / "config.yaml", words)[0] == 0
        alone.append([unit(side) for side in scored[-1]])
    models, living = [], []
    build = evaluate_only.build_trained

    def count_models(*arguments):
        gc.collect()
        living.append(sum(model() is not None for model in models))
        models.append(weakref.ref(model := build(*arguments)))
        return model

    monkeypatch.setattr(evaluate_only, "build_trained", count_models)
    code, text = _evaluate(
        capsys, market_config, small_run(MODEL__WEIGHTS=trained, TEST__ENSEMBLE_WEIGHTS=f"['{second}']")
    )
    assert code == 0
    assert "TEST.ENSEMBLE concatenate: the features of" in text
    assert living == [0, 0]  # each was freed before the next was built
    for side, found in enumerate(scored[-1]):
        expected = np.concatenate([features[side] for features in alone], axis=1) / 2**0.5
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_checkpoints_of_one_run_are_averaged(trained, market_config, small_run, tmp_path, scored, capsys):
    other = tmp_path / "run" / "checkpoint_00000003.pt"
    words = {"TEST__ENSEMBLE": "average", "OUTPUT_DIR": tmp_path / "alone"}
    alone = []
    for path in (trained, other):
        assert _evaluate(capsys, market_config, small_run(MODEL__WEIGHTS=path, **words))[0] == 0
        alone.append(unit(scored[-1][0]))
    words |= {"MODEL__WEIGHTS": trained, "TEST__ENSEMBLE_WEIGHTS": f"['{other}']"}
    assert _evaluate(capsys, market_config, small_run(**words))[0] == 0
    np.testing.assert_allclose(scored[-1][0], sum(alone) / 2, atol=1e-5)


def test_ensembles_that_cannot_be_are_refused_before_anything_is_encoded(
    trained, second, market_config, small_run, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(TestSets, "encode", lambda *arguments: pytest.fail("encoded"))
    bare, foreign = tmp_path / "bare.pt", tmp_path / "foreign.pt"
    content = torch.load(trained, weights_only=True)
    torch.save({key: value for key, value in content.items() if key != "config"}, bare)
    project = Path(market_config).parents[1].name
    torch.save(content | {"config": content["config"].replace(f"/{project}\n", "/ELSEWHERE\n")}, foreign)
    for words, problem in (
        ({"MODEL__WEIGHTS": ""}, "checkpoints beside MODEL.WEIGHTS, which is empty"),
        ({"TEST__ENSEMBLE": "sum"}, "TEST.ENSEMBLE must be one of concatenate, average, got 'sum'"),
        ({"TEST__ENSEMBLE_WEIGHTS": f"['{trained}']"}, "name a checkpoint twice"),
        ({"TEST__ENSEMBLE_WEIGHTS": f"['{tmp_path / 'gone.pt'}']"}, "There is no checkpoint"),
        ({"TEST__ENSEMBLE_WEIGHTS": f"['{bare}']"}, "bare.pt holds no config"),
        (
            {"TEST__ENSEMBLE_WEIGHTS": f"['{foreign}']"},
            f"project 'ELSEWHERE', which this run does not load ({project})",
        ),
    ):
        words = {"MODEL__WEIGHTS": trained, "TEST__ENSEMBLE_WEIGHTS": f"['{second}']", **words}
        code, text = _evaluate(capsys, market_config, small_run(**words))
        assert code == 2 and problem in text
    words = small_run(TEST__ENSEMBLE_WEIGHTS=f"['{second}']", OUTPUT_DIR=tmp_path / "training")
    assert main(["--config-file", market_config, *words]) == 2
    assert "TEST.ENSEMBLE_WEIGHTS are for --eval-only" in capsys.readouterr().out, "not ignored by training"


def test_a_checkpoint_brings_its_model_and_images_and_the_run_the_rest(market_config, small_run, tmp_path):
    """Its project, of another method, is the run's of that name, not what lies where the checkpoint says."""
    for folder, word in (("trusted", "kept"), ("there", "not run")):
        (tmp_path / folder / "OTHER_METHOD").mkdir(parents=True)
        text = f"def add_config(cfg):\n    cfg.OTHER_KEY = '{word}'\n"
        (tmp_path / folder / "OTHER_METHOD" / "__init__.py").write_text(text)
    trusted = str(tmp_path / "trusted" / "OTHER_METHOD")
    run = load_config(market_config, [*small_run(), "PROJECTS", f"['{trusted}']"])
    saved = load_config(None, ["PROJECTS", f"['{trusted}']", "MODEL.HEADS.BN_MOMENTUM", "0.5", "TEST.METRIC", "cosine"])
    saved.INPUT.SIZE_TEST = [96, 48]
    text = saved.dump().replace("/trusted/", "/there/")
    save_checkpoint(tmp_path / "a.pt", {"model": {}, "config": text})
    own = evaluate_only.config_of_checkpoint(run, tmp_path / "a.pt")
    assert (own.MODEL.HEADS.BN_MOMENTUM, own.INPUT.SIZE_TEST, own.OTHER_KEY) == (0.5, [96, 48], "kept")
    assert own.PROJECTS == [trusted]
    assert own.TEST.METRIC == run.TEST.METRIC == "euclidean" and own.DATASETS == run.DATASETS
    with pytest.raises(ConfigError, match="a.pt was trained with the project 'OTHER_METHOD', which this run does not"):
        evaluate_only.config_of_checkpoint(load_config(market_config, small_run()), tmp_path / "a.pt")


def test_widths_that_cannot_be_averaged_are_named(trained, second, market_config, small_run, capsys):
    words = {"MODEL__WEIGHTS": trained, "TEST__ENSEMBLE_WEIGHTS": f"['{second}']", "TEST__ENSEMBLE": "average"}
    code, text = _evaluate(capsys, market_config, small_run(**words))
    assert code == 2 and "Features of different widths cannot be averaged" in text
