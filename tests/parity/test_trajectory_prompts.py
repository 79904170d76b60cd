"""Three optimiser steps of each stage of the two-stage method: losses, gradients and every stored parameter."""

import numpy as np
import pytest
import torch

from projects.CLIP_ReID import PromptTuning
from reid_core.engine.step import TrainStep
from reid_core.solver import build_optimizer
from tests.parity import helpers
from tests.parity.models import our_name, prompt_model

GOLDEN = helpers.load("trajectory")
ENCODERS = [case[0] for case in helpers.cases("trajectory", r"clip_(vit|rn)_s1_loss_step0")]
pytestmark = pytest.mark.xdist_group("trajectory_prompts")  # one process runs the steps once


def _images(step: int) -> torch.Tensor:
    return helpers.image_batch(int(GOLDEN["base"]) + 1101 + step, len(GOLDEN["y"][step]), 256, 128)


def _solver(values) -> list[str]:
    lr, decay, *bias = (str(float(value)) for value in values)
    keys = ["BASE_LR", lr, "WEIGHT_DECAY", decay, "WEIGHT_DECAY_BIAS", decay]
    keys += ["BIAS_LR_FACTOR", bias[0]] if bias else []
    return [word if place % 2 else f"SOLVER.{word}" for place, word in enumerate(keys)]


def _norms(model, encoder) -> np.ndarray:
    visual = model.backbone.visual
    projection = visual.proj if encoder == "vit" else visual.attnpool.c_proj.weight
    parameters = (projection, visual.conv1.weight, model.heads.classifier.weight)
    return np.array([float(parameter.grad.norm()) for parameter in parameters])


def _copy(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _prompt_stage(encoder: str, model, cfg) -> list[dict]:
    model.eval()
    with torch.no_grad():
        features = [model.shared_space_features({"images": _images(step)}) for step in range(len(GOLDEN["y"]))]
    step = TrainStep(
        PromptTuning(model.text), build_optimizer(cfg.SOLVER, model.text.named_parameters()), torch.device("cpu")
    )
    records = []
    for y, images in zip(torch.from_numpy(GOLDEN["y"]), features, strict=True):
        identities, slots = y.unique(return_inverse=True)
        losses = step.forward_backward({"features": images, "targets": y, "identities": identities, "slots": slots})
        names = ("total_loss", "loss_i2t", "loss_t2i")
        gradient = helpers.sums(model.text.prompts.table.grad)
        records.append({"loss": np.array([losses[name] for name in names]), "gradient": gradient})
        step.apply()
    return records


def _image_stage(encoder: str, model, cfg) -> list[dict]:
    model.keep_text = True
    model.fix_text_features()
    parameters = [(n, p) for n, p in model.named_parameters() if not n.startswith(model.temporary)]
    step = TrainStep(model, build_optimizer(cfg.SOLVER, parameters), torch.device("cpu"))
    records = []
    for number, y in enumerate(torch.from_numpy(GOLDEN["y"])):
        losses = step.forward_backward({"images": _images(number), "targets": y})
        record = {"loss": float(losses["total_loss"]), "norms": _norms(model, encoder)}
        records.append({**record, "accuracy": float(step.metrics["image_to_all_texts_accuracy"])})
        step.apply()
    return records


@pytest.fixture(scope="module", params=ENCODERS)
def trajectory(request) -> dict:
    """Both stages run: what is compared, by the golden keys, and the model between them."""
    encoder = request.param
    num_identities = len(GOLDEN[f"clip_{encoder}_s1_cls_ctx_head"])
    model, cfg = prompt_model(encoder, num_identities, _solver(GOLDEN[f"clip_{encoder}_s1_lr_wd"]))
    run = {"encoder": encoder, "tag": f"clip_{encoder}", "states": [_copy(model)]}
    run["s1"] = _prompt_stage(encoder, model, cfg)
    run["states"].append(_copy(model))
    cfg.merge_from_list(_solver(GOLDEN[f"clip_{encoder}_s2_lr_wd_biasfactor"]))
    run["s2"] = _image_stage(encoder, model, cfg)
    run["states"].append(_copy(model))
    run["text_features"] = model.text_features
    return run


def test_prompt_stage(trajectory):
    tag = f"{trajectory['tag']}_s1"
    for number, ours in enumerate(trajectory["s1"]):
        np.testing.assert_allclose(ours["loss"], GOLDEN[f"{tag}_loss_step{number}"], rtol=1e-4 if number else 2e-5)
        np.testing.assert_allclose(ours["gradient"][1:], GOLDEN[f"{tag}_grad_cls_ctx_step{number}"][1:], rtol=1e-3)
    head = GOLDEN[f"{tag}_cls_ctx_head"]
    table = trajectory["states"][1]["text.prompts.table"]
    np.testing.assert_allclose(table[tuple(slice(size) for size in head.shape)], head, atol=2e-5)


def test_image_stage(trajectory):
    tag = f"{trajectory['tag']}_s2"
    ill_conditioned = trajectory["encoder"] == "rn"  # BatchNorm over 8 images
    loss_tolerances = (1e-4, 1e-2, 2e-2) if ill_conditioned else (2e-5, 1e-4, 1e-4)
    norm_tolerances = (1e-2, 3e-2, 3e-1) if ill_conditioned else (1e-3, 1e-3, 1e-3)
    head = GOLDEN[f"{tag}_text_feat_head"]
    np.testing.assert_allclose(trajectory["text_features"][:, : head.shape[1]], head, atol=2e-4)
    for number, ours in enumerate(trajectory["s2"]):
        tolerance = loss_tolerances[min(number, 2)]
        np.testing.assert_allclose(ours["loss"], GOLDEN[f"{tag}_loss_step{number}"], rtol=tolerance)
        expected = GOLDEN[f"{tag}_gradnorms_step{number}"]
        np.testing.assert_allclose(ours["norms"], expected, rtol=norm_tolerances[min(number, 2)])
        if not ill_conditioned or number == 0:
            assert ours["accuracy"] == pytest.approx(float(GOLDEN[f"{tag}_acc_step{number}"]))


@pytest.mark.parametrize("stage", [1, 2])
def test_every_parameter_moved_as_much(trajectory, stage):
    before, after = trajectory["states"][stage - 1 : stage + 1]
    tolerance = 0.1 if (trajectory["encoder"], stage) == ("rn", 2) else 1e-3
    names = [case[0] for case in helpers.cases("trajectory", rf"{trajectory['tag']}_s{stage}_delta/(.+)")]
    assert names
    for name in names:
        moved = after[our_name(name)].double() - before[our_name(name)].double()
        expected = GOLDEN[f"{trajectory['tag']}_s{stage}_delta/{name}"][2]
        np.testing.assert_allclose(helpers.sums(moved)[2], expected, rtol=tolerance, atol=1e-9, err_msg=name)


def test_the_image_stage_leaves_the_text_side_untouched(trajectory):
    before, after = trajectory["states"][1:]
    text = [name for name in before if name.startswith("text.")]
    assert text
    assert all(torch.equal(before[name], after[name]) for name in text)
