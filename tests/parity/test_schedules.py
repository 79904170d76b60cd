"""Learning-rate sequences and parameter groups against the authors' programs."""

import ast
import re

import numpy as np
import pytest

from reid_core.solver import build_optimizer
from reid_core.solver.schedule import WarmupCosine, WarmupMultiStep
from tests.parity import helpers
from tests.parity.models import our_name, prototype_model

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
