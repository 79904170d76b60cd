"""Both self-supervision terms as runs: switches, resuming, several processes, the smallest batches."""

import signal

import pytest
import torch

from projects.SVLL_ReID import PROMPT_AUGMENTATION_REGISTRY
from reid_core.config import ConfigError
from reid_core.engine.hooks.interrupt import Interrupted
from reid_core.engine.launch import main
from reid_core.modeling.checkpoint import list_checkpoints
from reid_core.modeling.losses import simclr_loss
from reid_core.projects import load_config
from reid_core.utils.writers import read_json_lines
from tests.paths import ROOT
from tests.projects.runs import At, assert_same_end, end_of, float64_run, in_two_processes, train

ABLATIONS = {
    "": {"loss_language", "loss_vision"},
    "_language_only": {"loss_language"},
    "_vision_only": {"loss_vision"},
    "_neither": set(),
}


def _rows(folder):
    return read_json_lines(folder / "metrics.jsonl")


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_four_ablations_train_evaluate_and_reload(ablation, self_supervised_run, tmp_path):
    config = str(ROOT / "projects" / "SVLL_ReID" / "configs" / f"market{ablation}.yml")
    assert main(["--config-file", config, *self_supervised_run()]) == 0
    losses = {name for row in _rows(tmp_path / "run") for name in row if name.startswith("loss_")}
    assert losses & {"loss_language", "loss_vision"} == ABLATIONS[ablation]
    assert {"loss_i2t", "loss_t2i", "loss_id", "loss_triplet", "loss_image_to_text"} <= losses
    keys = end_of(tmp_path / "run")["model"]
    assert any(key.startswith("image_head.") for key in keys) == ("loss_vision" in ABLATIONS[ablation])
    assert not any(key.startswith(("text.", "text_projector.")) for key in keys)
    words = self_supervised_run(MODEL__WEIGHTS=tmp_path / "run" / "best.pt", OUTPUT_DIR=tmp_path / "again")
    assert main(["--config-file", config, "--eval-only", *words]) == 0


@pytest.mark.parametrize("vision_loss", ["simclr", "simsiam"])
def test_every_part_is_trained(self_supervised_trainer, vision_loss):
    trainer = self_supervised_trainer(SVLL__VISION_LOSS=vision_loss, SOLVER__BASE_LR=0.01)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    train(trainer)
    for name, parameter in trainer.model.named_parameters():
        bias_of_norm_follows = "linear1.bias" in name or "linear2.bias" in name  # a norm takes it away again
        if parameter.requires_grad and not bias_of_norm_follows and "in_proj_bias" not in name:
            assert not torch.equal(parameter, before[name]), name
    assert any(name.startswith("image_head.") for name, _ in trainer.model.named_parameters())


@pytest.mark.parametrize("trained", [False, True])
def test_the_text_projector(self_supervised_trainer, trained):
    """Published: it keeps its random weights while its running statistics move."""
    trainer = self_supervised_trainer(SVLL__TRAIN_TEXT_PROJECTOR=trained, CLIP_REID__KEEP_TEXT=True)
    before = {name: value.clone() for name, value in trainer.model.text_projector.state_dict().items()}
    train(trainer)
    after = trainer.model.text_projector.state_dict()
    assert torch.equal(after["linear3.weight"], before["linear3.weight"]) != trained
    assert not torch.equal(after["bn1.running_mean"], before["bn1.running_mean"])


@pytest.mark.parametrize("augmentation", ["mask", "swap", "mix"])
@pytest.mark.parametrize("stop_after", [3, 12])
def test_stopped_and_resumed(self_supervised_trainer, tmp_path, augmentation, stop_after):
    """The generator of the augmentation goes on where it was."""
    more = {"SVLL__PROMPT_AUGMENTATION": augmentation, "STAGES__PROMPTS__BATCH_SIZE": 6}
    train(self_supervised_trainer(**more, OUTPUT_DIR=tmp_path / "whole"))
    stop = At("before_step", lambda _: signal.raise_signal(signal.SIGTERM), stop_after - 1)
    with pytest.raises(Interrupted):
        train(self_supervised_trainer(**more, OUTPUT_DIR=tmp_path / "parts"), stop)
    trainer = self_supervised_trainer(**more, OUTPUT_DIR=tmp_path / "parts")
    trainer.resume()
    assert trainer.global_iteration == stop_after
    train(trainer)
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("augmentation", ["mask", "swap", "mix"])
def test_one_identity_in_a_batch_of_stage_one(self_supervised_trainer, tmp_path, augmentation):
    """Nothing to mix with, nothing to tell from, no variance for the norms: the term is 0, and never NaN."""
    train(self_supervised_trainer(STAGES__PROMPTS__BATCH_SIZE=1, SVLL__PROMPT_AUGMENTATION=augmentation))
    steps = [row for row in _rows(tmp_path / "run") if row["stage"] == "prompts"]
    assert len(steps) == 48
    assert all(row["loss_language"] == 0 and row["total_loss"] == 0 for row in steps)


def test_one_image_in_a_batch_of_stage_two_is_one_clear_error(self_supervised_config, self_supervised_run, capsys):
    words = self_supervised_run(DATALOADER__BATCH_SIZE=1, DATALOADER__NUM_INSTANCES=1, SOLVER__ITERATIONS_PER_EPOCH=1)
    assert main(["--config-file", self_supervised_config, *words]) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "DATALOADER.BATCH_SIZE leaves 1 image for each of 1 processes" in text
    assert "prompts epoch" not in text  # said before stage 1, not after it


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"SVLL__TEMPERATURE": 0.0}, "SVLL.TEMPERATURE must be positive"),
        ({"SVLL__PROMPT_AUGMENTATION_SCALE": 1.5}, r"SVLL.PROMPT_AUGMENTATION_SCALE must be in \[0, 1\], got 1.5"),
        ({"SVLL__PROJECTOR_HIDDEN_WIDTH": 0}, "SVLL.PROJECTOR_HIDDEN_WIDTH must be positive"),
        ({"INPUT__EXTRA_VIEW_TRANSFORMS": '["Resize", "RandomHorizontalFlip"]'}, "views .* must have one size"),
    ],
)
def test_settings_of_stage_two_are_looked_at_before_stage_one(self_supervised_trainer, more, message):
    with pytest.raises(ValueError, match=message):
        self_supervised_trainer(**more)


def test_settings_reach_both_terms(self_supervised_trainer):
    """The losses of one step of each stage, against the functions with the same settings."""
    trainer = self_supervised_trainer(
        SVLL__LANGUAGE_WEIGHT=0.25,
        SVLL__VISION_WEIGHT=0.375,
        SVLL__TEMPERATURE=0.5,
        SVLL__PROMPT_AUGMENTATION="swap",
        SVLL__PROMPT_AUGMENTATION_SCALE=0.375,
        SOLVER__AMP="off",
    )
    tuning, model = trainer.stages[0].step.model, trainer.model
    state, prompts = tuning.augmenter.generator.get_state(), tuning.text.prompts(torch.arange(4))
    projected = []
    tuning.text_projector.register_forward_hook(lambda module, inputs, output: projected.append(output))
    targets = torch.arange(4)
    batch = {"features": torch.randn(4, 16), "targets": targets, "identities": targets, "slots": targets}
    loss = tuning(batch)["loss_language"]
    torch.testing.assert_close(loss, 0.25 * simclr_loss(*projected, 0.5))
    tuning.augmenter.generator.set_state(state)
    swapped = PROMPT_AUGMENTATION_REGISTRY.get("swap")(prompts, 0.375, tuning.augmenter.generator)
    expected = tuning.text_projector(tuning.text.encode(swapped))
    torch.testing.assert_close(projected[0], expected, rtol=1e-4, atol=1e-5)
    views = {"views": torch.randint(0, 256, (8, 3, 3, 64, 32), dtype=torch.uint8), "targets": torch.arange(8) % 4}
    model.fix_text_features()
    heads = []
    model.train().image_head.register_forward_hook(lambda module, inputs, output: heads.append(output))
    torch.testing.assert_close(model(views)["loss_vision"], 0.375 * simclr_loss(*heads, 0.5))


PUBLISHED = {
    "market": {}, "msmt": {}, "duke": {}, "occluded_duke": {},
    "veri": {"SVLL.LANGUAGE_WEIGHT": 2.0, "MODEL.BACKBONE.SIE_VIEW": True, "DATALOADER.BATCH_SIZE": 32,
             "STAGES.PROMPTS.BATCH_SIZE": 64, "STAGES.PROMPTS.SOLVER.MAX_EPOCHS": 60},
    "vehicleid": {"DATALOADER.BATCH_SIZE": 32, "STAGES.PROMPTS.BATCH_SIZE": 64, "SOLVER.BASE_LR": 5e-5,
                  "STAGES.PROMPTS.SOLVER.MAX_EPOCHS": 60, "MODEL.BACKBONE.SIE_CAMERA": False},
}  # fmt: skip


@pytest.mark.parametrize("run", PUBLISHED)
def test_published_settings(run):
    cfg = load_config(ROOT / "projects" / "SVLL_ReID" / "configs" / f"{run}.yml")
    expected = {
        "SVLL.LANGUAGE_TERM": True,
        "SVLL.LANGUAGE_WEIGHT": 0.8,
        "SVLL.PROMPT_AUGMENTATION": "mask",
        "SVLL.PROMPT_AUGMENTATION_SCALE": 0.5,
        "SVLL.TRAIN_TEXT_PROJECTOR": False,
        "SVLL.VISION_TERM": True,
        "SVLL.VISION_WEIGHT": 0.8,
        "SVLL.VISION_LOSS": "simclr",
        "SVLL.TEMPERATURE": 0.1,
        "SVLL.PROJECTOR_HIDDEN_WIDTH": 4096,
        "SVLL.PROJECTOR_OUTPUT_WIDTH": 256,
        "SVLL.PREDICTOR_HIDDEN_WIDTH": 512,
        "INPUT.EXTRA_VIEWS": 2,
        "INPUT.EXTRA_VIEW_ERASING_AREA": [1 / 3, 1 / 3],
        "INPUT.ERASING_AREA": [0.02, 0.4],
        "INPUT.ERASING_FILL": "noise",
        "MODEL.BACKBONE.PATCH_STRIDE": 12,
        "MODEL.BACKBONE.SIE_CAMERA": True,
        "MODEL.BACKBONE.SIE_VIEW": False,
        "MODEL.BACKBONE.SIE_COEFFICIENT": 1.0,
        "MODEL.LOSSES.ID_WEIGHT": 0.25,
        "STAGES.PROMPTS.BATCH_SIZE": 256,
        "STAGES.PROMPTS.SOLVER.MAX_EPOCHS": 120,
        "DATALOADER.BATCH_SIZE": 64,
        "SOLVER.BASE_LR": 5e-6,
        **PUBLISHED[run],
    }
    assert {key: cfg.value_of(key) for key in expected} == expected


def test_switches_that_do_not_fit_are_refused(self_supervised_trainer, self_supervised_config, self_supervised_run):
    with pytest.raises(ConfigError, match="SVLL.VISION_TERM True needs INPUT.EXTRA_VIEWS 2, got 0"):
        self_supervised_trainer(INPUT__EXTRA_VIEWS=0)
    with pytest.raises(ConfigError, match="SVLL.VISION_TERM False needs INPUT.EXTRA_VIEWS 0, got 2"):
        self_supervised_trainer(SVLL__VISION_TERM=False)
    with pytest.raises(ConfigError, match="SVLL.VISION_LOSS must be one of simclr, simsiam, got 'byol'"):
        self_supervised_trainer(SVLL__VISION_LOSS="byol")
    with pytest.raises(LookupError, match="No prompt augmentation named 'maks'.*Did you mean 'mask'"):
        self_supervised_trainer(SVLL__PROMPT_AUGMENTATION="maks")
    with pytest.raises(ConfigError, match="Did you mean 'SVLL.LANGUAGE_WEIGHT'"):
        load_config(self_supervised_config, self_supervised_run(SVLL__LANGUAGE_WEIGT=1))


def test_a_generator_of_another_device_starts_afresh(self_supervised_trainer, caplog):
    (augmenter,) = self_supervised_trainer().stages[0].hooks[1:]
    state = augmenter.generator.get_state()
    augmenter.load_state_dict({"device": "cuda", "generator": torch.zeros(16, dtype=torch.uint8)})
    assert torch.equal(augmenter.generator.get_state(), state)
    assert "the augmentation starts afresh" in caplog.text


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("augmentation", ["mask", "mix"])
def test_two_processes_equal_one(self_supervised_config, self_supervised_run, tmp_path, augmentation):
    """Negatives of both terms come from all processes; the text projector's norms see all rows, the image head's norms
    are in evaluation mode, as they would see each process's images alone."""
    common = {
        "INPUT__ERASING_PROBABILITY": 0.0,
        "SOLVER__OPTIMIZER": "SGD",
        "STAGES__PROMPTS__SOLVER__OPTIMIZER": "SGD",
        "SOLVER__AMP": "off",
        "MODEL__LOSSES__TRIPLET_WEIGHT": 0.0,  # mined in each process's share of the batch
        "TEST__PERIOD": 0,
        "CLIP_REID__KEEP_TEXT": True,
        "SVLL__TRAIN_TEXT_PROJECTOR": True,
        "SVLL__PROMPT_AUGMENTATION": augmentation,
    }
    words = {name: self_supervised_run(**common, OUTPUT_DIR=tmp_path / name) for name in ("one", "two")}
    expected = float64_run(self_supervised_config, words["one"])
    assert any("text_projector" in name for name in expected)
    for found in in_two_processes(self_supervised_config, words["two"]):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9, msg=name)


def test_checkpoints_of_the_method_without_self_supervision_start_it(
    prompts_trainer, self_supervised_trainer, tmp_path
):
    """...and are refused with a list of what they lack, rather than trained from a random projector unsaid."""
    train(prompts_trainer(MODEL__BACKBONE__PATCH_STRIDE=12, MODEL__BACKBONE__SIE_CAMERA=True))
    weights = list_checkpoints(tmp_path / "run")[-1]
    with pytest.raises(RuntimeError, match="lacks .* tensors .*image_head"):
        self_supervised_trainer(MODEL__WEIGHTS=weights, OUTPUT_DIR=tmp_path / "tuned")
