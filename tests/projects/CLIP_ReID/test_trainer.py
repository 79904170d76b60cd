"""Both stages as runs: what trains when, what is kept, and that a run stopped anywhere ends as if it had not been."""

import json
import signal
import weakref

import pytest
import torch

from reid_core.config import ConfigError
from reid_core.data.rendering import RenderingOptions, render_dataset
from reid_core.engine.hooks.interrupt import Interrupted
from reid_core.engine.launch import main
from reid_core.modeling.checkpoint import CheckpointError, list_checkpoints, read_checkpoint
from reid_core.utils.writers import read_json_lines
from tests.conftest import write_small_clip, write_small_market
from tests.paths import ROOT
from tests.projects.runs import At, assert_same_end, copy_of, end_of, float64_run, in_two_processes, train


def test_the_whole_run(prompts_trainer, tmp_path):
    trainer = train(prompts_trainer())
    rows = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    by_stage = {stage: [row for row in rows if row["stage"] == stage] for stage in ("prompts", "train")}
    assert [row["iteration"] for row in by_stage["prompts"]] == list(range(1, 11))  # 24 images in batches of 5
    assert all({"loss_i2t", "loss_t2i", "text_to_image_accuracy"} <= set(row) for row in by_stage["prompts"])
    assert not any("mAP" in row for row in by_stage["prompts"])  # the image encoder is frozen: nothing to evaluate
    assert sum("mAP" in row for row in by_stage["train"]) == 2
    assert all("loss_image_to_text" in row for row in by_stage["train"] if "lr" in row)
    assert trainer.results["Market1501"]["mAP"] > 0
    first, last = by_stage["prompts"][0]["total_loss"], by_stage["prompts"][-1]["total_loss"]
    assert last < first


def test_stage_one_trains_the_table_alone_and_stage_two_everything_else(prompts_trainer):
    states = []
    trainer = prompts_trainer(CLIP_REID__KEEP_TEXT=True)
    start = copy_of(trainer.model)
    train(trainer, At("after_stage", lambda trainer: states.append(copy_of(trainer.model))))
    first, second = states
    changed = {key for key in start if not torch.equal(start[key], first[key])}
    assert changed == {"text.prompts.table", "text_features"}
    changed = {key for key in first if not torch.equal(first[key], second[key])}
    assert not any(key.startswith("text") for key in changed)
    trained = {name for name, p in trainer.model.named_parameters() if p.requires_grad and not name.startswith("text")}
    assert trained <= changed | {name for name in trained if "in_proj_bias" in name}
    torch.testing.assert_close(trainer.model.text_features, trainer.model.text.all_features())


def test_the_text_side_costs_nothing_in_stage_two(prompts_trainer, tmp_path):
    trainer = prompts_trainer()
    text = trainer.model.text
    references = [weakref.ref(text.prompts.table), weakref.ref(text.encoder.positional_embedding)]
    references += [weakref.ref(trainer.stages[0].step.optimizer), weakref.ref(trainer.stages[0].step.model)]
    del text
    gone = []

    def look(trainer):
        if trainer.stage.name == "train":
            gone.append([reference() is None for reference in references])
            assert trainer.stages[0].loader.features is None

    train(trainer, At("before_stage", look))
    assert gone == [[True] * 4]  # at once, not when the garbage collector comes by
    keys = end_of(tmp_path / "run")["model"]
    assert "text_features" in keys
    assert not [key for key in keys if key.startswith("text.")]


@pytest.mark.parametrize("batch_size", [24, 12, 100, 1])
def test_any_number_of_images_in_a_batch(prompts_trainer, tmp_path, batch_size):
    """A multiple, fewer images than a batch, one identity in a batch."""
    train(prompts_trainer(STAGES__PROMPTS__BATCH_SIZE=batch_size, SOLVER__MAX_EPOCHS=1, LOG__PERIOD=1))
    rows = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    steps = [row for row in rows if row["stage"] == "prompts"]
    assert len(steps) == 2 * -(-24 // batch_size)
    assert all(row["total_loss"] >= 0 for row in steps)


@pytest.mark.parametrize("stop_after", [3, 5, 8, 10, 12])
def test_stopped_by_a_signal_and_resumed(prompts_trainer, tmp_path, stop_after):
    """Inside the first epoch of stage 1, at its end, in the second, at the stage's end, in stage 2."""
    train(prompts_trainer(OUTPUT_DIR=tmp_path / "whole"))
    stop = At("before_step", lambda _: signal.raise_signal(signal.SIGTERM), stop_after - 1)
    with pytest.raises(Interrupted):
        train(prompts_trainer(OUTPUT_DIR=tmp_path / "parts"), stop)
    assert end_of(tmp_path / "parts")["trainer"]["global_iteration"] == stop_after
    trainer = prompts_trainer(OUTPUT_DIR=tmp_path / "parts")
    trainer.resume()
    assert (trainer.stage.name, trainer.global_iteration) == ("prompts" if stop_after <= 10 else "train", stop_after)
    train(trainer)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("moment", ["after_stage", "before_stage"])
def test_died_between_the_stages(prompts_trainer, tmp_path, moment):
    """Before the text features were computed, and when they were but no checkpoint holds them yet."""

    def die(trainer):
        if trainer.global_iteration == 10:
            raise MemoryError("the machine went away")

    train(prompts_trainer(OUTPUT_DIR=tmp_path / "whole"))
    with pytest.raises(MemoryError):
        train(prompts_trainer(OUTPUT_DIR=tmp_path / "parts"), At(moment, die))
    trainer = prompts_trainer(OUTPUT_DIR=tmp_path / "parts")
    trainer.resume()
    encoded = []
    trainer.stages[0].hooks[0].extract = lambda batch: encoded.append(batch)
    train(trainer)
    assert not encoded  # nothing is left to train in stage 1, so nothing is encoded for it
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_evaluation_of_both_stages_checkpoints(prompts_config, prompts_run, prompts_trainer, tmp_path):
    """A checkpoint of stage 1 has a text side, one of stage 2 has none; evaluation needs neither."""
    stop = At("before_step", lambda _: signal.raise_signal(signal.SIGTERM), 4)
    with pytest.raises(Interrupted):
        train(prompts_trainer(), stop)
    early = list_checkpoints(tmp_path / "run")[-1]
    words = prompts_run(MODEL__WEIGHTS=early, OUTPUT_DIR=tmp_path / "early")
    assert main(["--config-file", prompts_config, "--eval-only", *words]) == 0
    assert main(["--config-file", prompts_config, *prompts_run(), "--resume"]) != 0  # options come first
    assert main(["--config-file", prompts_config, "--resume", *prompts_run()]) == 0
    words = prompts_run(MODEL__WEIGHTS=tmp_path / "run" / "best.pt", OUTPUT_DIR=tmp_path / "late")
    assert main(["--config-file", prompts_config, "--eval-only", *words]) == 0


def test_starting_from_a_checkpoint_of_other_identities(prompts_trainer, tmp_path):
    """The image encoder starts from the checkpoint, the text encoder, which it has not, from CLIP's weights."""
    train(prompts_trainer())
    data = write_small_market(tmp_path / "other", train_identities=4)
    weights = tmp_path / "run" / "best.pt"
    trainer = prompts_trainer(DATASETS__ROOT=data, MODEL__WEIGHTS=weights, OUTPUT_DIR=tmp_path / "tuned")
    assert trainer.model.text.prompts.num_identities == 4
    saved = read_checkpoint(weights)["model"]
    assert torch.equal(trainer.model.backbone.visual.proj, saved["backbone.visual.proj"])
    train(trainer)
    assert trainer.results["Market1501"]["mAP"] > 0


def test_learned_prompts_go_straight_to_stage_two(prompts_trainer, tmp_path):
    """MAX_EPOCHS 0 leaves stage 1 out: its prompts come from a checkpoint that kept them."""
    first = train(prompts_trainer(CLIP_REID__KEEP_TEXT=True, SOLVER__MAX_EPOCHS=1))
    weights = list_checkpoints(tmp_path / "run")[-1]
    second = train(
        prompts_trainer(
            MODEL__WEIGHTS=weights, OUTPUT_DIR=tmp_path / "again", STAGES__PROMPTS__SOLVER__MAX_EPOCHS=0
        )
    )
    assert torch.equal(first.model.text_features, second.model.text_features)
    assert second.global_iteration == 6


def test_without_stage_one_the_texts_come_from_somewhere(prompts_trainer, tmp_path):
    """The text features of a checkpoint that has no prompts any more are taken over; from nowhere is an error."""
    first = train(prompts_trainer(SOLVER__MAX_EPOCHS=1))
    weights = list_checkpoints(tmp_path / "run")[-1]
    none = {"STAGES__PROMPTS__SOLVER__MAX_EPOCHS": 0, "OUTPUT_DIR": tmp_path / "again"}
    second = train(prompts_trainer(**none, MODEL__WEIGHTS=weights))
    assert torch.equal(first.model.text_features, second.model.text_features)
    assert second.model.text is None
    with pytest.raises(ConfigError, match="holds neither prompts nor text features"):
        train(prompts_trainer(**none))
    others = write_small_market(tmp_path / "other", train_identities=4)
    with pytest.raises(ConfigError, match="holds neither prompts nor text features of these identities"):
        train(prompts_trainer(**none, MODEL__WEIGHTS=weights, DATASETS__ROOT=others))


def test_kept_text_is_dropped_when_resumed_without_the_switch(prompts_trainer, tmp_path):
    train(prompts_trainer(CLIP_REID__KEEP_TEXT=True))
    assert any(key.startswith("text.") for key in end_of(tmp_path / "run")["model"])
    trainer = prompts_trainer(SOLVER__MAX_EPOCHS=3)
    trainer.resume()
    assert trainer.model.text is None
    train(trainer)
    assert not any(key.startswith("text.") for key in end_of(tmp_path / "run")["model"])


@pytest.mark.xdist_group("processes")
def test_two_processes_equal_one(prompts_config, prompts_run, tmp_path):
    """Prompts are shared between processes, images of a batch too; random erasing is off, as it draws float32."""
    common = {
        "INPUT__ERASING_PROBABILITY": 0.0,
        "SOLVER__OPTIMIZER": "SGD",
        "STAGES__PROMPTS__SOLVER__OPTIMIZER": "SGD",
        "SOLVER__AMP": "off",
        "MODEL__LOSSES__TRIPLET_WEIGHT": 0.0,  # mined in each process's share of the batch
        "TEST__PERIOD": 0,
    }
    words = {name: prompts_run(**common, OUTPUT_DIR=tmp_path / name) for name in ("one", "two")}
    expected = float64_run(prompts_config, words["one"])
    for found in in_two_processes(prompts_config, words["two"]):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9, msg=name)


def test_typos_and_impossible_settings(prompts_config, prompts_run, capsys, tmp_path):
    def fails(match, **more):
        capsys.readouterr()
        assert main(["--config-file", prompts_config, *prompts_run(**more)]) == 2
        assert match in " ".join(capsys.readouterr().out.split())
        assert not list_checkpoints(tmp_path / "run")

    fails("Did you mean 'CLIP_REID.TEMPLATE'?", CLIP_REID__TEMPLAT="a X")
    fails("Did you mean 'STAGES.PROMPTS.SOLVER.BASE_LR'?", STAGES__PROMPTS__SOLVER__BASELR=1)
    fails("has no word X", CLIP_REID__TEMPLATE="A photo of a person.")
    fails("reads 77", CLIP_REID__TEMPLATE=" ".join(["X"] * 80))
    fails("CLIP_REID.TEMPERATURE must be positive", CLIP_REID__TEMPERATURE=0.0)
    fails("batch size of cached features must be positive", STAGES__PROMPTS__BATCH_SIZE=0)
    fails("'STAGES.PROMPTS.SOLVER.BASE_LR' (command line) must be a number", STAGES__PROMPTS__SOLVER__BASE_LR="fast")
    fails("no text features yet", TRAINER="DefaultTrainer")


def test_another_tower_size_is_read_from_the_model(prompts_trainer, tmp_path):
    clip = write_small_clip(tmp_path / "wide.json", width=48)
    trainer = prompts_trainer(MODEL__BACKBONE__ARCHITECTURE=clip, CLIP_REID__TEMPLATE="A X X dog.")
    assert trainer.model.text.prompts.table.shape == (6, 2, 16)


def test_a_resnet_trains_in_both_stages(prompts_run, tmp_path):
    config = str(ROOT / "projects" / "CLIP_ReID" / "configs" / "market_rn50.yml")
    words = prompts_run(MODEL__BACKBONE__ARCHITECTURE=ROOT / "configs" / "clip" / "tiny_rn.json")
    assert main(["--config-file", config, *words]) == 0
    rows = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert {row["stage"] for row in rows} == {"prompts", "train"}


def test_the_baseline_has_one_stage_and_no_text(prompts_run, tmp_path):
    config = str(ROOT / "projects" / "CLIP_ReID" / "configs" / "market_vit_baseline.yml")
    assert main(["--config-file", config, *prompts_run()]) == 0
    assert not any(name.startswith("text") for name in end_of(tmp_path / "run")["model"])
    rows = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert {row["stage"] for row in rows} == {"train"}
    assert not any("loss_image_to_text" in row for row in rows)


def test_vehicles_by_their_own_protocol(prompts_run, tmp_path):
    """VehicleID, rendered: stage 1 says "vehicle", and the result is a mean over random galleries."""
    size = {"train_identities": 6, "test_identities": 5, "cameras": 3, "cameras_per_identity": 2}
    options = RenderingOptions(layout="vehicleid", height=64, width=64, images_per_camera=2, **size)
    render_dataset(tmp_path, options)
    config = str(ROOT / "projects" / "CLIP_ReID" / "configs" / "vehicleid_vit.yml")
    words = prompts_run(DATASETS__ROOT=tmp_path, INPUT__SIZE_TRAIN="[64, 64]", INPUT__SIZE_TEST="[64, 64]")
    assert main(["--config-file", config, *words]) == 0
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())["VehicleID"]
    assert {"mAP", "mAP_std", "rank1", "rank1_std"} <= set(results)


def test_side_information_of_cameras_that_are_none_is_refused(prompts_run, tmp_path, capsys):
    options = RenderingOptions(layout="vehicleid", height=64, width=64, train_identities=4, test_identities=4)
    render_dataset(tmp_path, options)
    config = str(ROOT / "projects" / "CLIP_ReID" / "configs" / "vehicleid_vit.yml")
    words = prompts_run(DATASETS__ROOT=tmp_path, MODEL__BACKBONE__SIE_CAMERA=True)
    assert main(["--config-file", config, *words]) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "VehicleID names no cameras: set MODEL.BACKBONE.SIE_CAMERA False" in text


def _kept(trainer_of, folder, **more):
    """The newest checkpoint of a run that keeps its text side."""
    train(trainer_of(CLIP_REID__KEEP_TEXT=True, SOLVER__MAX_EPOCHS=1, OUTPUT_DIR=folder, **more))
    return list_checkpoints(folder)[-1]


@pytest.mark.parametrize("template", ["X X X X very long other animal", "A X X dog.", "A photo of a X X X X X person."])
def test_prompts_of_another_template_start_anew(prompts_trainer, tmp_path, caplog, template):
    """A table that was learned inside of another text means nothing there, whether it fits by its shape or not."""
    weights = _kept(prompts_trainer, tmp_path / "first")
    other = {"CLIP_REID__TEMPLATE": template, "MODEL__WEIGHTS": weights, "OUTPUT_DIR": tmp_path / "second"}
    trainer = prompts_trainer(**other)
    assert "learned inside of another text" in " ".join(caplog.text.split())
    fresh = prompts_trainer(CLIP_REID__TEMPLATE=template, OUTPUT_DIR=tmp_path / "third").model.text.prompts
    prompts = trainer.model.text.prompts
    for ours, expected in ((prompts.template, fresh.template), (prompts.token_ids, fresh.token_ids)):
        assert torch.equal(ours, expected)
    assert prompts.table.shape == fresh.table.shape
    assert not torch.equal(prompts.table[:, :1], read_checkpoint(weights)["model"]["text.prompts.table"][:, :1])


def test_resuming_with_another_template_is_refused(prompts_trainer):
    with pytest.raises(Interrupted):
        train(prompts_trainer(), At("before_step", lambda _: signal.raise_signal(signal.SIGTERM), 3))
    with pytest.raises(CheckpointError, match="of another model than the config's: .*another text"):
        prompts_trainer(CLIP_REID__TEMPLATE="A photo of a X X person.").resume()


@pytest.mark.parametrize(("stop_after", "epochs"), [(7, 1), (3, 0), (7, 0)])
def test_a_stage_one_that_is_shortened_before_resuming(prompts_trainer, tmp_path, stop_after, epochs):
    """"Enough of stage 1, go on": stage 2 has its whole first epoch, and the prompts are those learned so far."""
    with pytest.raises(Interrupted):
        train(prompts_trainer(), At("before_step", lambda _: signal.raise_signal(signal.SIGTERM), stop_after - 1))
    learned = end_of(tmp_path / "run")["model"]["text.prompts.table"]
    trainer = prompts_trainer(STAGES__PROMPTS__SOLVER__MAX_EPOCHS=epochs)
    trainer.resume()
    assert torch.equal(trainer.model.text.prompts.table, learned)
    expected = trainer.model.text.all_features()
    train(trainer)
    assert torch.equal(trainer.model.text_features, expected)
    assert trainer.global_iteration == stop_after + 2 * 3
    again = prompts_trainer(STAGES__PROMPTS__SOLVER__MAX_EPOCHS=0, SOLVER__MAX_EPOCHS=3)
    again.resume()  # in stage 2, where stage 1 is of no concern
    train(again)
    assert again.global_iteration == stop_after + 3 * 3


def test_a_checkpoint_of_stage_two_starts_the_baseline(prompts_trainer, prompts_run, tmp_path, capsys):
    train(prompts_trainer())
    baseline = str(ROOT / "projects" / "CLIP_ReID" / "configs" / "market_vit_baseline.yml")
    words = prompts_run(MODEL__WEIGHTS=tmp_path / "run" / "best.pt", OUTPUT_DIR=tmp_path / "baseline")
    capsys.readouterr()
    assert main(["--config-file", baseline, "--eval-only", *words]) == 0
    assert "Left out text_features: what" in " ".join(capsys.readouterr().out.split())
    assert main(["--config-file", baseline, *words]) == 0


def test_keeping_a_text_side_that_is_gone_is_a_warning(prompts_trainer, caplog):
    train(prompts_trainer())
    trainer = prompts_trainer(CLIP_REID__KEEP_TEXT=True, SOLVER__MAX_EPOCHS=3)
    trainer.resume()
    assert "there is no text side to keep" in caplog.text
    kept = train(prompts_trainer(CLIP_REID__KEEP_TEXT=True, OUTPUT_DIR=trainer.folder / "kept"))
    again = prompts_trainer(CLIP_REID__KEEP_TEXT=True, OUTPUT_DIR=trainer.folder / "kept", SOLVER__MAX_EPOCHS=3)
    again.resume()
    assert not kept.model.text.prompts.table.requires_grad
    assert not again.model.text.prompts.table.requires_grad


def test_accuracies_do_not_depend_on_the_precision(prompts_trainer):
    """Near texts tie in 16 bits: the nearest one must be found in 32."""
    tuning = prompts_trainer().stages[0].step.model
    generator = torch.Generator().manual_seed(0)
    images = 8 * torch.nn.functional.normalize(torch.randn(6, 16, generator=generator) * 0.1 + 1, dim=1)
    targets = torch.arange(6)
    batch = {"features": images, "targets": targets, "identities": targets, "slots": targets}
    found = []
    for precision in (torch.float32, torch.bfloat16):
        tuning.identity_features = lambda identities: images * 1.001
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            found.append({name: float(value) for name, value in tuning(batch).items() if name.startswith("metric/")})
    assert found[0] == found[1]


def test_errors_of_a_stages_solver_name_the_stage(prompts_trainer):
    with pytest.raises(ConfigError, match="Stage 'prompts', whose own solver goes before SOLVER: SOLVER.AMP must be"):
        prompts_trainer(STAGES__PROMPTS__SOLVER__AMP="bogus")


def test_stage_one_has_its_own_checkpoint_period(prompts_trainer, tmp_path):
    more = {"STAGES__PROMPTS__SOLVER__MAX_EPOCHS": 5, "CHECKPOINT__KEEP": 20}
    train(prompts_trainer(**more, STAGES__PROMPTS__CHECKPOINT_PERIOD=2))
    saved = [int(path.stem.rpartition("_")[2]) for path in list_checkpoints(tmp_path / "run")]
    assert saved == [10, 20, 25, 28, 31]
