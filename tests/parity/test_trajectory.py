"""Three optimiser steps of the prototype method: losses, gradients, memory and every stored parameter."""

import numpy as np
import pytest
import torch

from reid_core.engine.step import TrainStep
from reid_core.solver import build_optimizer
from tests.parity import helpers
from tests.parity.models import our_name, prototype_model

GOLDEN = helpers.load("trajectory")
pytestmark = pytest.mark.xdist_group("trajectory")  # one process runs the steps once
if GOLDEN and "pcl_loss_step0" not in GOLDEN:
    pytest.skip("this set of golden files has no trajectory of the prototype method", allow_module_level=True)


def _batch(step: int) -> dict[str, torch.Tensor]:
    y = GOLDEN["y"][step]
    images = helpers.image_batch(int(GOLDEN["base"]) + 1101 + step, len(y), 256, 128)
    return {"images": images, "targets": torch.from_numpy(y), "camids": torch.from_numpy(GOLDEN["cams"][step])}


def _first_memory(model, batches) -> None:
    """The memory that training starts with, from features taken without cameras."""
    model.eval()
    with torch.no_grad():
        features = torch.cat([model({"images": batch["images"]}) for batch in batches])
    labels = torch.from_numpy(GOLDEN["pcl_mem0_labels_used"])
    features = torch.cat([features, features[: len(labels) - len(features)]])
    model.rebuild_memory(features, labels)


@pytest.fixture(scope="module")
def trajectory() -> dict:
    """The run: what is compared, by the golden keys, and the model before and after."""
    steps = len(GOLDEN["y"])
    batches = [_batch(step) for step in range(steps)]
    overrides = []
    coefficient = float(GOLDEN.get("pcl_sie_camera_coefficient", 0.0))
    if coefficient:
        overrides = ["MODEL.BACKBONE.SIE_CAMERA", "True", "MODEL.BACKBONE.SIE_COEFFICIENT", str(coefficient)]
    lr, decay, momentum = map(float, GOLDEN["pcl_lr_wd_mom"])
    overrides += ["SOLVER.BASE_LR", str(lr), "SOLVER.WEIGHT_DECAY", str(decay), "SOLVER.WEIGHT_DECAY_BIAS", str(decay)]
    overrides += ["SOLVER.MOMENTUM", str(momentum)]
    model, cfg = prototype_model(len(GOLDEN["pcl_mem0_head"]), overrides, cameras=6, views=1)
    _first_memory(model, batches)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = {"mem0": model.memory.prototypes.clone(), "steps": []}
    step = TrainStep(model, build_optimizer(cfg.SOLVER, model.named_parameters()), torch.device("cpu"))
    for batch in batches:
        losses = step.forward_backward(batch)
        model.update_memory()
        run["steps"].append(
            {
                "loss": np.array([losses["total_loss"], losses["loss_pcl"], losses["loss_id"]]),
                "gradnorm_proj": float(model.backbone.visual.proj.grad.norm()),
                "memory": model.memory.prototypes.clone(),
            }
        )
        step.apply()
    run["before"], run["after"] = before, model.state_dict()
    return run


def test_first_memory(trajectory):
    width = GOLDEN["pcl_mem0_head"].shape[1]
    np.testing.assert_allclose(trajectory["mem0"][:, :width], GOLDEN["pcl_mem0_head"], atol=2e-5)
    np.testing.assert_allclose(helpers.sums(trajectory["mem0"])[2], GOLDEN["pcl_mem0_sums"][2], rtol=1e-5)


@pytest.mark.parametrize("step", sorted(int(case[0]) for case in helpers.cases("trajectory", r"pcl_loss_step(\d+)")))
def test_step(trajectory, step):
    ours = trajectory["steps"][step]
    tolerance = 2e-5 if step == 0 else 1e-4
    np.testing.assert_allclose(ours["loss"], GOLDEN[f"pcl_loss_step{step}"], rtol=tolerance)
    np.testing.assert_allclose(ours["gradnorm_proj"], GOLDEN[f"pcl_gradnorm_proj_step{step}"], rtol=1e-4)
    head = GOLDEN[f"pcl_mem_head_step{step}"]
    np.testing.assert_allclose(ours["memory"][:, : head.shape[1]], head, atol=2e-4)
    np.testing.assert_allclose(helpers.sums(ours["memory"])[2], GOLDEN[f"pcl_mem_sums_step{step}"][2], rtol=1e-5)


@pytest.mark.parametrize("name", [case[0] for case in helpers.cases("trajectory", r"pcl_delta/(.+)")])
def test_parameter_moved_as_much(trajectory, name):
    ours = trajectory["after"][our_name(name)] - trajectory["before"][our_name(name)]
    expected = GOLDEN[f"pcl_delta/{name}"][2]
    tolerance = 1e-2 if name.endswith("ln_post.bias") else 1e-3
    np.testing.assert_allclose(helpers.sums(ours)[2], expected, rtol=tolerance, atol=1e-9)
    after = trajectory["after"][our_name(name)].flatten()[:8]
    np.testing.assert_allclose(after, GOLDEN[f"pcl_first8/{name}"], atol=1e-4)
