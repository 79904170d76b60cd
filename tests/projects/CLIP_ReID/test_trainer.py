"""Both stages as runs: what trains when, what is kept, and that a run stopped anywhere ends as if it had not been."""

import gc
import multiprocessing
import os
import signal
import socket
import weakref

import pytest
import torch
import torch.distributed as dist

from reid_core.engine.checkpoint import list_checkpoints, read_checkpoint
from reid_core.engine.hooks import Hook
from reid_core.engine.hooks.interrupt import Interrupted
from reid_core.engine.launch import main
from reid_core.projects import load_config
from reid_core.registry import TRAINER_REGISTRY
from reid_core.utils.writers import read_json_lines
from tests.conftest import write_small_clip, write_small_market


class At(Hook):
    """Does something before a step (counted over both stages), or between the stages."""

    def __init__(self, moment, action, iteration=None):
        self.moment, self.action, self.iteration = moment, action, iteration

    @property
    def name(self):
        return f"at {self.moment} {self.iteration}"

    def _act(self, moment):
        if moment == self.moment and self.iteration in (None, self.trainer.global_iteration):
            self.action(self.trainer)

    def before_step(self):
        self._act("before_step")

    def before_stage(self):
        self._act("before_stage")

    def after_stage(self):
        self._act("after_stage")


def _train(trainer, *hooks):
    for hook in hooks:
        trainer.register_hook(hook)
    try:
        trainer.train()
    finally:
        trainer.close()
    return trainer


def _copy(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def _end(folder):
    return read_checkpoint(list_checkpoints(folder)[-1])


def _assert_same_end(first, second):
    one, two = _end(first), _end(second)
    assert one["model"].keys() == two["model"].keys()
    assert all(torch.equal(value, two["model"][key]) for key, value in one["model"].items())
    states = (content["trainer"]["step"]["optimizer"]["state"] for content in (one, two))
    for ours, theirs in zip(*(state.values() for state in states), strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_whole_run(prompts_trainer, tmp_path):
    trainer = _train(prompts_trainer())
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
    start = _copy(trainer.model)
    _train(trainer, At("after_stage", lambda trainer: states.append(_copy(trainer.model))))
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
    references += [weakref.ref(trainer.stages[0].step.optimizer)]
    del text
    gone = []

    def look(trainer):
        if trainer.stage.name == "train":
            gc.collect()
            gone.append([reference() is None for reference in references])

    _train(trainer, At("before_stage", look))
    assert gone == [[True, True, True]]
    keys = _end(tmp_path / "run")["model"]
    assert "text_features" in keys
    assert not [key for key in keys if key.startswith("text.")]


@pytest.mark.parametrize("batch_size", [24, 12, 100, 1])
def test_any_number_of_images_in_a_batch(prompts_trainer, tmp_path, batch_size):
    """A multiple, fewer images than a batch, one identity in a batch."""
    _train(prompts_trainer(STAGES__PROMPTS__BATCH_SIZE=batch_size, SOLVER__MAX_EPOCHS=1, LOG__PERIOD=1))
    rows = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    steps = [row for row in rows if row["stage"] == "prompts"]
    assert len(steps) == 2 * -(-24 // batch_size)
    assert all(row["total_loss"] >= 0 for row in steps)


@pytest.mark.parametrize("stop_after", [3, 5, 8, 10, 12])
def test_stopped_by_a_signal_and_resumed(prompts_trainer, tmp_path, stop_after):
    """Inside the first epoch of stage 1, at its end, in the second, at the stage's end, in stage 2."""
    _train(prompts_trainer(OUTPUT_DIR=tmp_path / "whole"))
    stop = At("before_step", lambda _: signal.raise_signal(signal.SIGTERM), stop_after - 1)
    with pytest.raises(Interrupted):
        _train(prompts_trainer(OUTPUT_DIR=tmp_path / "parts"), stop)
    assert _end(tmp_path / "parts")["trainer"]["global_iteration"] == stop_after
    trainer = prompts_trainer(OUTPUT_DIR=tmp_path / "parts")
    trainer.resume()
    assert (trainer.stage.name, trainer.global_iteration) == ("prompts" if stop_after <= 10 else "train", stop_after)
    _train(trainer)
    _assert_same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("moment", ["after_stage", "before_stage"])
def test_died_between_the_stages(prompts_trainer, tmp_path, moment):
    """Before the text features were computed, and when they were but no checkpoint holds them yet."""

    def die(trainer):
        if trainer.global_iteration == 10:
            raise MemoryError("the machine went away")

    _train(prompts_trainer(OUTPUT_DIR=tmp_path / "whole"))
    with pytest.raises(MemoryError):
        _train(prompts_trainer(OUTPUT_DIR=tmp_path / "parts"), At(moment, die))
    trainer = prompts_trainer(OUTPUT_DIR=tmp_path / "parts")
    trainer.resume()
    encoded = []
    trainer.stages[0].hooks[0].extract = lambda batch: encoded.append(batch)
    _train(trainer)
    assert not encoded  # nothing is left to train in stage 1, so nothing is encoded for it
    _assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_evaluation_of_both_stages_checkpoints(prompts_config, prompts_run, prompts_trainer, tmp_path):
    """A checkpoint of stage 1 has a text side, one of stage 2 has none; evaluation needs neither."""
    stop = At("before_step", lambda _: signal.raise_signal(signal.SIGTERM), 4)
    with pytest.raises(Interrupted):
        _train(prompts_trainer(), stop)
    early = list_checkpoints(tmp_path / "run")[-1]
    words = prompts_run(MODEL__WEIGHTS=early, OUTPUT_DIR=tmp_path / "early")
    assert main(["--config-file", prompts_config, "--eval-only", *words]) == 0
    assert main(["--config-file", prompts_config, *prompts_run(), "--resume"]) != 0  # options come first
    assert main(["--config-file", prompts_config, "--resume", *prompts_run()]) == 0
    words = prompts_run(MODEL__WEIGHTS=tmp_path / "run" / "best.pt", OUTPUT_DIR=tmp_path / "late")
    assert main(["--config-file", prompts_config, "--eval-only", *words]) == 0


def test_starting_from_a_checkpoint_of_other_identities(prompts_trainer, tmp_path):
    """The image encoder starts from the checkpoint, the text encoder, which it has not, from CLIP's weights."""
    _train(prompts_trainer())
    data = write_small_market(tmp_path / "other", train_identities=4)
    weights = tmp_path / "run" / "best.pt"
    trainer = prompts_trainer(DATASETS__ROOT=data, MODEL__WEIGHTS=weights, OUTPUT_DIR=tmp_path / "tuned")
    assert trainer.model.text.prompts.num_identities == 4
    saved = read_checkpoint(weights)["model"]
    assert torch.equal(trainer.model.backbone.visual.proj, saved["backbone.visual.proj"])
    _train(trainer)
    assert trainer.results["Market1501"]["mAP"] > 0


def test_learned_prompts_go_straight_to_stage_two(prompts_trainer, tmp_path):
    """MAX_EPOCHS 0 leaves stage 1 out: its prompts come from a checkpoint that kept them."""
    first = _train(prompts_trainer(CLIP_REID__KEEP_TEXT=True, SOLVER__MAX_EPOCHS=1))
    weights = list_checkpoints(tmp_path / "run")[-1]
    second = _train(
        prompts_trainer(
            MODEL__WEIGHTS=weights, OUTPUT_DIR=tmp_path / "again", STAGES__PROMPTS__SOLVER__MAX_EPOCHS=0
        )
    )
    assert torch.equal(first.model.text_features, second.model.text_features)
    assert second.global_iteration == 6


def test_kept_text_is_dropped_when_resumed_without_the_switch(prompts_trainer, tmp_path):
    _train(prompts_trainer(CLIP_REID__KEEP_TEXT=True))
    assert any(key.startswith("text.") for key in _end(tmp_path / "run")["model"])
    trainer = prompts_trainer(SOLVER__MAX_EPOCHS=3)
    trainer.resume()
    assert trainer.model.text is None
    _train(trainer)
    assert not any(key.startswith("text.") for key in _end(tmp_path / "run")["model"])


def _process(rank, port, config, words, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    results.put((rank, _float64_run(config, words)))
    dist.barrier()
    dist.destroy_process_group()


def _float64_run(config, words):
    """Both stages in float64 with norms in evaluation mode, so that only the division of labour differs."""
    cfg = load_config(config, words)
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER)(cfg)
    normalise = trainer.model.double().normalise
    trainer.model.normalise = lambda images: normalise(images).double()
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval().train = lambda mode=True, module=module: module
    loader = trainer.stages[0].loader
    set_features = loader.set_features
    loader.set_features = lambda features: set_features(features.double())
    state = _train(trainer).model.state_dict()
    return {name: value.tolist() for name, value in state.items() if "text_features" in name or "proj" in name}


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
    expected = _float64_run(prompts_config, words["one"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.projects.CLIP_ReID.test_trainer"])
    results = context.Queue()
    processes = [
        context.Process(target=_process, args=(rank, port, prompts_config, words["two"], results)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    for rank in range(2):
        for name, value in expected.items():
            ours = torch.tensor(found[rank][name])
            torch.testing.assert_close(ours, torch.tensor(value), rtol=1e-6, atol=1e-9, msg=name)


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
