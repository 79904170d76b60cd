"""Unsupervised runs: every loss, stopped anywhere, shared by processes, started from other checkpoints."""

import json
import multiprocessing
import os
import signal
import threading

import pytest
import torch

from reid_core.engine.default_trainer import DefaultTrainer
from reid_core.engine.hooks import Hook
from reid_core.engine.hooks.interrupt import Interrupted
from reid_core.engine.launch import main
from reid_core.modeling.checkpoint import list_checkpoints
from reid_core.projects import load_config
from reid_core.utils.writers import read_json_lines
from tests.conftest import write_small_market
from tests.projects.runs import At, assert_same_end, copy_of, end_of, in_two_processes, train

PROXIES = ("INTRA", "OFFLINE", "ONLINE")
ALL = {f"PCL__PROXY__{name}_WEIGHT": 1.0 for name in PROXIES}
LOSSES = {
    "cluster, plain": {"PCL__UPDATE_RULE": "plain"},
    "cluster, hard": {"PCL__UPDATE_RULE": "hard"},
    **{name.lower(): {"PCL__LOSS_WEIGHT": 0.0, f"PCL__PROXY__{name}_WEIGHT": 1.0} for name in PROXIES},
    "all": {**ALL, "PCL__UPDATE_RULE": "plain"},
    "all, plain sampler": {**ALL, "DATALOADER__SAMPLER": "RandomSampler"},
    "cameras spread": {"DATALOADER__SAMPLER": "IdentityCameraSampler"},
    "one pass": {**ALL, "SOLVER__ITERATIONS_PER_EPOCH": 0},
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains(clusters_trainer, tmp_path, name):
    trainer = clusters_trainer(**LOSSES[name])
    start = copy_of(trainer.model)
    train(trainer)
    rows = [row for row in read_json_lines(tmp_path / "run" / "metrics.jsonl") if "total_loss" in row]
    assert len(rows) == trainer.global_iteration >= 6
    found = {key for row in rows for key in row if key.startswith("loss_")}
    kinds = ("cluster", "intra", "offline", "online")
    expected = {f"loss_{kind}" for kind in kinds if kind in name} or {"loss_cluster"}
    if "PCL__PROXY__INTRA_WEIGHT" in LOSSES[name] and "PCL__LOSS_WEIGHT" not in LOSSES[name]:
        expected = {f"loss_{kind}" for kind in kinds}
    assert found == expected
    assert all(abs(row["total_loss"] - sum(row[key] for key in found)) < 1e-3 for row in rows)
    end = trainer.model.state_dict()
    assert not torch.equal(start["backbone.visual.proj"], end["backbone.visual.proj"])
    for bank in ("clusters", "proxies"):
        used = any((kind == "loss_cluster") == (bank == "clusters") for kind in found)
        assert (len(end.get(f"{bank}.prototypes", ())) > 0) == used
    assert trainer.results["Market1501"]["mAP"] > 0


def rows_of(folder):
    timing = ("seconds_per_iteration", "data_seconds", "eta_seconds")
    rows = read_json_lines(folder / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key not in timing} for row in rows]


def assert_same_run(tmp_path):
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "parts")
    assert (tmp_path / "whole" / "clusters.csv").read_bytes() == (tmp_path / "parts" / "clusters.csv").read_bytes()
    labels = [end_of(tmp_path / part)["trainer"]["hooks"]["PseudoLabelHook"]["clusters"] for part in ("whole", "parts")]
    assert torch.equal(*labels)


@pytest.fixture
def resumed(clusters_trainer, tmp_path):
    """resumed(keys) -> goes on with the stopped run, to its end."""

    def go_on(keys):
        trainer = clusters_trainer(**keys, OUTPUT_DIR=tmp_path / "parts")
        trainer.resume()
        return train(trainer)

    return go_on


@pytest.mark.parametrize(("workers", "stop_after", "losses"), [(0, 1, "all"), (2, 3, "all"), (0, 5, "cluster, hard")])
def test_interrupted_and_resumed(clusters_trainer, resumed, tmp_path, workers, stop_after, losses):
    """Inside the first epoch, at its end, inside the second."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    keys = {**LOSSES[losses], "DATALOADER__NUM_WORKERS": workers}
    train(clusters_trainer(**keys, OUTPUT_DIR=tmp_path / "whole"))
    stop = At("before_step", lambda _: signal.raise_signal(signal.SIGTERM), stop_after - 1)
    with pytest.raises(Interrupted):
        train(clusters_trainer(**keys, OUTPUT_DIR=tmp_path / "parts"), stop)
    assert end_of(tmp_path / "parts")["trainer"]["global_iteration"] == stop_after
    resumed(keys)
    assert_same_run(tmp_path)


def killed_run(config, words, iteration):
    """Run until a step and die there, as by the kernel's hand."""
    torch.set_num_threads(1)
    train(
        DefaultTrainer(load_config(config, words)),
        At("before_step", lambda _: os.kill(os.getpid(), signal.SIGKILL), iteration),
    )


def test_killed_and_resumed(clusters_config, clusters_run, clusters_trainer, resumed, tmp_path):
    keys = {**LOSSES["all"], "DATALOADER__NUM_WORKERS": 2, "CHECKPOINT__ITERATION_PERIOD": 2}
    train(clusters_trainer(**keys, OUTPUT_DIR=tmp_path / "whole"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.projects.PCL_CLIP.test_unsupervised_runs"])
    words = clusters_run(**keys, OUTPUT_DIR=tmp_path / "parts")
    process = context.Process(target=killed_run, args=(clusters_config, words, 5))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert end_of(tmp_path / "parts")["trainer"]["global_iteration"] == 4, "inside the second epoch"
    resumed(keys)
    assert_same_run(tmp_path)


@pytest.mark.parametrize("stop_after", [2, 3, 4])
def test_resumed_around_a_skipped_epoch(clusters_trainer, resumed, tmp_path, monkeypatch, stop_after):
    """The second epoch finds noise; the run is stopped before it, right at it, and in the third epoch."""
    from projects.PCL_CLIP import pseudo_label_hook

    real = pseudo_label_hook.pseudo_labels

    def run_with_noise(*hooks, go_on=False, **keys):
        hook = []
        monkeypatch.setattr(
            pseudo_label_hook,
            "pseudo_labels",
            lambda *arguments, **options: (
                real(*arguments, **options) * 0 - 1
                if (hook[0].epoch, hook[0].iteration) == (1, 0) and hook[0].stage_index == 0
                else real(*arguments, **options)
            ),
        )
        trainer = clusters_trainer(**ALL, SOLVER__MAX_EPOCHS=3, **keys)
        hook.append(trainer)
        if go_on:
            trainer.resume()
        return train(trainer, *hooks)

    assert run_with_noise(OUTPUT_DIR=tmp_path / "whole").global_iteration == 6
    stop = At("before_step", lambda _: signal.raise_signal(signal.SIGTERM), stop_after - 1)
    with pytest.raises(Interrupted):
        run_with_noise(stop, OUTPUT_DIR=tmp_path / "parts")
    run_with_noise(go_on=True, OUTPUT_DIR=tmp_path / "parts")
    assert_same_run(tmp_path)
    assert end_of(tmp_path / "parts")["trainer"]["hooks"]["PseudoLabelHook"]["skipped"] == 1


class Labels(Hook):
    def __init__(self):
        self.seen = []

    def before_epoch(self):
        (hook,) = (hook for hook, _ in self.trainer.hooks if hook.name == "PseudoLabelHook")
        self.seen.append(hook.clusters.clone())


def float64_run(config, words):
    """In float64 with the model's norms in evaluation mode, so that only the division of labour differs: the model's
    state and the labels of the epochs."""
    trainer = DefaultTrainer(load_config(config, words))
    normalise = trainer.model.double().normalise
    trainer.model.normalise = lambda images: normalise(images).double()
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval().train = lambda mode=True, module=module: module
    labels = Labels()
    train(trainer, labels)
    return copy_of(trainer.model) | {f"labels{epoch}": found for epoch, found in enumerate(labels.seen)}


@pytest.mark.xdist_group("processes")
def test_two_processes_equal_one(clusters_config, clusters_run, tmp_path):
    """Batches of three proxies, so that the processes hold cameras in other shares; erasing draws float32."""
    common = {
        **LOSSES["all"],
        "DATALOADER__BATCH_SIZE": 12,
        "INPUT__ERASING_PROBABILITY": 0.0,
        "SOLVER__BASE_LR": 1e-3,
        "SOLVER__AMP": "off",
        "TEST__PERIOD": 0,
    }
    words = {name: clusters_run(**common, OUTPUT_DIR=tmp_path / name) for name in ("one", "two")}
    expected = float64_run(clusters_config, words["one"])
    assert expected["clusters.prototypes"].dtype == torch.float64 and "labels1" in expected
    for found in in_two_processes(clusters_config, words["two"], float64_run):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-8, msg=name)


@pytest.fixture
def other_market(tmp_path):
    """Other identities, more of them, before a third camera."""
    root = write_small_market(tmp_path / "other", train_identities=9)
    folder = root / "Market-1501-v15.09.15" / "bounding_box_train"
    for path in sorted(folder.glob("*_c2s1_000003_00.jpg")):
        path.rename(folder / path.name.replace("_c2", "_c3"))
    return root


def test_from_labels_to_none_and_back(clusters_config, clusters_run, market_config, small_run, tmp_path, capsys):
    assert main(["--config-file", market_config, *small_run(SOLVER__MAX_EPOCHS=1, OUTPUT_DIR=tmp_path / "labels")]) == 0
    supervised = list_checkpoints(tmp_path / "labels")[-1]
    words = clusters_run(**ALL, MODEL__WEIGHTS=supervised, OUTPUT_DIR=tmp_path / "none", SOLVER__MAX_EPOCHS=1)
    capsys.readouterr()
    assert main(["--config-file", clusters_config, *words]) == 0
    assert "Left out heads.classifier, memory.prototypes" in " ".join(capsys.readouterr().out.split())
    unsupervised = list_checkpoints(tmp_path / "none")[-1]
    words = small_run(MODEL__WEIGHTS=unsupervised, OUTPUT_DIR=tmp_path / "back", SOLVER__MAX_EPOCHS=1)
    assert main(["--config-file", market_config, *words]) == 0
    assert "Left out clusters, proxies" in " ".join(capsys.readouterr().out.split())
    model = end_of(tmp_path / "back")["model"]
    assert len(model["memory.prototypes"]) == len(model["heads.classifier.weight"]) == 6


def test_weights_are_taken_over(clusters_trainer, tmp_path):
    first = train(clusters_trainer())
    second = clusters_trainer(MODEL__WEIGHTS=list_checkpoints(tmp_path / "run")[-1], OUTPUT_DIR=tmp_path / "again")
    start, end = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(start[name], end[name]) for name in start if "prototypes" not in name)


def test_adaptation_to_other_cameras_and_clusters(clusters_config, clusters_run, other_market, tmp_path):
    assert main(["--config-file", clusters_config, *clusters_run(**ALL, OUTPUT_DIR=tmp_path / "source")]) == 0
    words = clusters_run(
        **ALL,
        DATASETS__ROOT=other_market,
        MODEL__WEIGHTS=tmp_path / "source" / "best.pt",
        OUTPUT_DIR=tmp_path / "target",
        SOLVER__BASE_LR=1e-4,
    )
    assert main(["--config-file", clusters_config, *words]) == 0
    ends = [end_of(tmp_path / name)["model"] for name in ("source", "target")]
    assert [len(end["clusters.prototypes"]) for end in ends] == [7, 9]
    assert [len(end["proxies.prototypes"]) for end in ends] == [13, 27]


@pytest.mark.parametrize("losses", ["cluster, hard", "all"])
def test_evaluation_alone(clusters_config, clusters_run, tmp_path, losses):
    """Also with the losses that the checkpoint was not trained with: no memory is needed."""
    assert main(["--config-file", clusters_config, *clusters_run(**LOSSES[losses])]) == 0
    expected = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for number, other in enumerate(("cluster, hard", "all")):
        words = clusters_run(
            **LOSSES[other],
            MODEL__WEIGHTS=list_checkpoints(tmp_path / "run")[-1],
            OUTPUT_DIR=tmp_path / f"evaluation{number}",
        )
        assert main(["--config-file", clusters_config, "--eval-only", *words]) == 0
        assert json.loads((tmp_path / f"evaluation{number}" / "eval_metrics.json").read_text()) == expected


def test_identities_that_are_known_may_be_left_in(clusters_trainer):
    """Without DATASETS.USE_LABELS False the identities are there from the start, and clusters take their place."""
    trainer = clusters_trainer(DATASETS__USE_LABELS=True)
    assert trainer.training_set.num_identities == 8
    train(trainer)
    assert trainer.stage.loader.targets.max() < 7, "of the last epoch's clusters"
