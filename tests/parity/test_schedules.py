"""Learning-rate sequences and parameter groups against the authors' programs."""

import ast
import re

import numpy as np
import pytest

from reid_core.config import overridden
from reid_core.projects import load_config
from reid_core.solver import build_optimizer
from reid_core.solver.schedule import WarmupCosine, WarmupMultiStep
from tests.parity import helpers
from tests.parity.models import our_name, prompt_model, prototype_model, self_supervised_model
from tests.paths import ROOT

SCHEDULES = helpers.load("schedules")


def _assert_sequence(schedule, expected, base_lrs):
    ours = np.array([[schedule(index, base_lr) for base_lr in base_lrs] for index in range(len(expected))])
    np.testing.assert_allclose(ours.reshape(expected.shape), expected, rtol=0, atol=1e-12)


def _solver(hyper):
    """The settings' numbers; they are printed as a Python dictionary."""
    return ast.literal_eval(str(hyper[0]))


@pytest.mark.parametrize("tag", [case[0] for case in helpers.cases("schedules", r"(.*_?)multistep") if case[0]])
def test_multistep_of_the_shipped_configs(tag):
    solver = _solver(SCHEDULES[f"{tag}hyper"])
    schedule = WarmupMultiStep(
        list(solver["STEPS"]),
        solver["GAMMA"],
        solver["WARMUP_ITERS"],
        solver["WARMUP_FACTOR"],
        solver["WARMUP_METHOD"],
    )
    base_lr = solver["BASE_LR"]
    _assert_sequence(schedule, SCHEDULES[f"{tag}multistep"], [base_lr, 2 * base_lr])


@pytest.mark.parametrize("tag", [case[0] for case in helpers.cases("schedules", r"(.*_)cosine")])
def test_cosine_of_the_shipped_configs(tag):
    solver = _solver(SCHEDULES[f"{tag}hyper"])
    schedule = WarmupCosine(
        solver["MAX_EPOCHS"], solver["LR_MIN"], solver["WARMUP_EPOCHS"], solver["WARMUP_LR_INIT"]
    )
    _assert_sequence(schedule, SCHEDULES[f"{tag}cosine"], [solver["BASE_LR"]])


@pytest.mark.parametrize("case", [case[0] for case in helpers.cases("schedules", r"(multistep\d+)")])
def test_multistep_with_free_arguments(case):
    _, base_lr, milestones, gamma, factor, length, method, n = ast.literal_eval(str(SCHEDULES[f"{case}_args"][0]))
    expected = SCHEDULES[case]
    assert len(expected) == n + 1
    _assert_sequence(WarmupMultiStep(milestones, gamma, length, factor, method), expected, [base_lr, 2 * base_lr])


@pytest.mark.parametrize("case", [case[0] for case in helpers.cases("schedules", r"(cosine\d+)")])
def test_cosine_with_free_arguments(case):
    _, base_lr, epochs, lr_min, warmup_lr, warmup_epochs, n = ast.literal_eval(str(SCHEDULES[f"{case}_args"][0]))
    expected = SCHEDULES[case]
    assert len(expected) == n + 1
    _assert_sequence(WarmupCosine(epochs, lr_min, warmup_epochs, warmup_lr), expected, [base_lr])


def test_the_pattern_for_shipped_configs_finds_the_prototype_method():
    assert any(re.fullmatch(r"pcl_multistep", key) for key in SCHEDULES)


@pytest.mark.parametrize("tag", [case[0] for case in helpers.cases("schedules", r"(pcl)_opt_names")])
def test_parameter_groups_of_the_prototype_method(tag):
    """The authors list frozen parameters too; ours trains the rest with the same rate, decay and optimiser."""
    shapes = dict(zip(SCHEDULES[f"{tag}_all_names"].tolist(), SCHEDULES[f"{tag}_shapes"].tolist(), strict=True))
    num_identities = ast.literal_eval(shapes["classifier.weight"])[0]
    side = ["MODEL.BACKBONE.SIE_CAMERA", "True"] if "cv_embed" in shapes else []
    cameras = ast.literal_eval(shapes["cv_embed"])[0] if side else 1
    model, cfg = prototype_model(num_identities, side, cameras=cameras)
    optimizer = build_optimizer(cfg.SOLVER, model.named_parameters())
    trained = SCHEDULES[f"{tag}_requires_grad"]
    names = SCHEDULES[f"{tag}_all_names"]
    assert {our_name(name) for name in names[trained]} == {n for g in optimizer.param_groups for n in g["names"]}
    values = {name: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for name in group["names"]}
    rows = zip(
        SCHEDULES[f"{tag}_opt_names"], SCHEDULES[f"{tag}_opt_lr"], SCHEDULES[f"{tag}_opt_wd"], strict=True
    )
    for name, lr, decay in rows:
        if our_name(name) in values:
            assert values[our_name(name)] == pytest.approx((lr, decay), abs=1e-12), name
    assert type(optimizer).__name__ == str(SCHEDULES[f"{tag}_opt_class"])
    defaults = ast.literal_eval(str(SCHEDULES[f"{tag}_opt_defaults"][0]))
    assert {key: optimizer.defaults[key] for key in ("momentum", "nesterov", "dampening")} == {
        key: defaults[key] for key in ("momentum", "nesterov", "dampening")
    }


def _side_information(shapes, overrides, cameras, views):
    """Overrides for a golden model's side information table; the settings that differ from the shipped config say
    which kinds it has."""
    if "cv_embed" not in shapes:
        return overrides, 1, 1
    rows = ast.literal_eval(shapes["cv_embed"])[0]
    if not cameras and not views:
        cameras = True
    overrides = [*overrides, "MODEL.BACKBONE.SIE_CAMERA", str(cameras), "MODEL.BACKBONE.SIE_VIEW", str(views)]
    return overrides, rows, 1


@pytest.mark.parametrize(("run", "stage"), helpers.cases("schedules", r"(clip_vit|clip_rn|svll)_(stage[12])_opt_names"))
def test_parameter_groups_of_both_stages(run, stage):
    """Stage 1 trains the prompts' table alone; stage 2 everything but the text side and the necks' biases."""
    tag = f"{run}_{stage}"
    shapes = dict(zip(SCHEDULES[f"{tag}_all_names"].tolist(), SCHEDULES[f"{tag}_shapes"].tolist(), strict=True))
    model, cfg = _two_stage_model(run, shapes)
    if stage == "stage1":
        solver = overridden(cfg.SOLVER, cfg.STAGES.PROMPTS.SOLVER, "STAGES.PROMPTS.SOLVER")
        parameters = [(n, p) for n, p in model.named_parameters() if n.startswith(model.temporary)]
    else:
        solver = cfg.SOLVER
        parameters = [(n, p) for n, p in model.named_parameters() if not n.startswith(model.temporary)]
    optimizer = build_optimizer(solver, parameters)
    values = {name: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for name in group["names"]}
    rows = zip(SCHEDULES[f"{tag}_opt_names"], SCHEDULES[f"{tag}_opt_lr"], SCHEDULES[f"{tag}_opt_wd"], strict=True)
    theirs = {our_name(name): (lr, decay) for name, lr, decay in rows}
    if stage == "stage2":  # listed by the authors, without a gradient in this stage
        theirs = {name: value for name, value in theirs.items() if not name.startswith("text_projector.")}
    assert values.keys() == theirs.keys()
    assert all(values[name] == pytest.approx(theirs[name], abs=1e-12) for name in theirs)
    assert type(optimizer).__name__ == str(SCHEDULES[f"{tag}_opt_class"])
    defaults = ast.literal_eval(str(SCHEDULES[f"{tag}_opt_defaults"][0]))
    assert all(optimizer.defaults[key] == defaults[key] for key in ("betas", "eps", "amsgrad"))


def _two_stage_model(run, shapes):
    """The model that the stored shapes describe, with the settings that differ from the shipped config."""
    options = ast.literal_eval(str(SCHEDULES.get(f"{run}_opts", "[]")))
    chosen = {key: str(value) == "True" for key, value in zip(options[::2], options[1::2], strict=True)}
    overrides, cameras, views = _side_information(
        shapes, [], chosen.get("MODEL.SIE_CAMERA", False), chosen.get("MODEL.SIE_VIEW", False)
    )
    num_identities = ast.literal_eval(shapes["classifier.weight"])[0]
    if run == "svll":
        vision_loss = "simsiam" if "image_mlp.linear1.weight" in shapes else "simclr"
        overrides = [*overrides, "SVLL.VISION_LOSS", vision_loss]
        return self_supervised_model(num_identities, overrides, cameras=cameras, views=views)
    return prompt_model(run.removeprefix("clip_"), num_identities, overrides, cameras=cameras, views=views)


_RUNS = {
    "clip_vit": "market_vit", "clip_rn": "market_rn50", "clip_veri": "veri_vit", "clip_rn_veri": "veri_rn50",
    "clip_veh": "vehicleid_vit", "clip_rn_veh": "vehicleid_rn50",
    "svll": "market", "svll_veri": "veri", "svll_veh": "vehicleid",
}  # fmt: skip


@pytest.mark.parametrize("tag", [case[0] for case in helpers.cases("schedules", r"((?:clip|svll)\w*)_stage2_hyper")])
def test_published_settings_are_those_of_our_configs(tag):
    """Every number of the authors' shipped configs that has a key here."""
    project = "SVLL_ReID" if tag.startswith("svll") else "CLIP_ReID"
    cfg = load_config(ROOT / "projects" / project / "configs" / f"{_RUNS[tag]}.yml")
    first, second = (_solver(SCHEDULES[f"{tag}_{stage}_hyper"]) for stage in ("stage1", "stage2"))
    ours = overridden(cfg.SOLVER, cfg.STAGES.PROMPTS.SOLVER, "STAGES.PROMPTS.SOLVER")
    assert cfg.STAGES.PROMPTS.BATCH_SIZE == first["IMS_PER_BATCH"]
    assert cfg.DATALOADER.BATCH_SIZE == second["IMS_PER_BATCH"]
    for solver, theirs in ((ours, first), (cfg.SOLVER, second)):
        assert theirs["OPTIMIZER_NAME"] == solver.OPTIMIZER
        for key in ("BASE_LR", "WEIGHT_DECAY", "MAX_EPOCHS"):
            assert solver[key] == theirs[key], key
    assert (ours.WARMUP_EPOCHS, ours.WARMUP_LR, ours.MIN_LR) == (
        first["WARMUP_EPOCHS"], first["WARMUP_LR_INIT"], first["LR_MIN"]
    )  # fmt: skip
    for key in ("GAMMA", "WARMUP_FACTOR", "WARMUP_METHOD", "BIAS_LR_FACTOR", "WEIGHT_DECAY_BIAS"):
        assert cfg.SOLVER[key] == second[key], key
    assert cfg.SOLVER.MILESTONES == list(second["STEPS"])
    assert second["WARMUP_ITERS"] == cfg.SOLVER.WARMUP_EPOCHS
    if project == "SVLL_ReID":
        assert first["SSL_LOSS_WEIGHT"] == cfg.SVLL.LANGUAGE_WEIGHT
        assert first["PROMPT_AUG_METHOD"] == cfg.SVLL.PROMPT_AUGMENTATION
        assert first["PROMPT_AUG_SCALE"] == cfg.SVLL.PROMPT_AUGMENTATION_SCALE
        assert second["SSL_LOSS_WEIGHT"] == cfg.SVLL.VISION_WEIGHT
