"""Three optimiser steps of each stage with self-supervision: losses, gradients and every stored parameter."""

import numpy as np
import pytest
import torch

from projects.SVLL_ReID import LanguageSupervisedPromptTuning
from projects.SVLL_ReID.prompt_augmentation import apply_mask
from reid_core.engine.step import TrainStep
from reid_core.solver import build_optimizer
from tests.parity import helpers
from tests.parity.models import our_name, self_supervised_model

GOLDEN = helpers.load("trajectory")
pytestmark = pytest.mark.xdist_group("trajectory_svll")  # one process runs the steps once
VISION = [case[0] for case in helpers.cases("trajectory", r"svll_(s2|s2simsiam)_loss_step0")]
STEPS = range(len(GOLDEN.get("y", ())))


def _images(view: int, step: int) -> torch.Tensor:
    first = (1101, 1121, 1141)[view]
    return helpers.image_batch(int(GOLDEN["base"]) + first + step, len(GOLDEN["y"][step]), 256, 128)


def _model(vision_loss: str, side_information: bool, solver: list[float]):
    lr, decay = (str(float(value)) for value in solver)
    overrides = ["MODEL.BACKBONE.PATCH_STRIDE", "16", "MODEL.BACKBONE.SIE_CAMERA", str(side_information)]
    overrides += ["SVLL.VISION_LOSS", vision_loss, "SOLVER.BASE_LR", lr]
    overrides += ["SOLVER.WEIGHT_DECAY", decay, "SOLVER.WEIGHT_DECAY_BIAS", decay]
    num_identities = len(GOLDEN["svll_s1_cls_ctx_head"])
    model, cfg = self_supervised_model(num_identities, overrides, cameras=6, views=1)
    model.keep_text = True
    return model, cfg


def _copy(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _recorded_masks(prompts: torch.Tensor, step: int, view: int) -> torch.Tensor:
    shape = tuple(GOLDEN[f"svll_s1_mask_shape_step{step}"])
    bits = np.unpackbits(GOLDEN[f"svll_s1_mask{view}_packed_step{step}"])[: np.prod(shape)]
    return apply_mask(prompts, torch.from_numpy(bits.reshape(shape)).bool())


def _prompt_stage(model, cfg, weight: float) -> list[dict]:
    model.eval()
    with torch.no_grad():
        features = [model.shared_space_features({"images": _images(0, step)}) for step in STEPS]
    turns = ((step, view) for step in STEPS for view in (1, 2))
    tuning = LanguageSupervisedPromptTuning(
        model.text,
        model.text_projector,
        lambda prompts, length: _recorded_masks(prompts, *next(turns)),
        language_weight=weight,
    )
    step = TrainStep(tuning, build_optimizer(cfg.SOLVER, tuning.named_parameters()), torch.device("cpu"))
    records = []
    for y, images in zip(torch.from_numpy(GOLDEN["y"]), features, strict=True):
        identities, slots = y.unique(return_inverse=True)
        losses = step.forward_backward({"features": images, "targets": y, "identities": identities, "slots": slots})
        parts = [losses["total_loss"], losses["loss_i2t"], losses["loss_t2i"], losses["loss_language"] / weight]
        records.append({"loss": np.array(parts), "gradient": helpers.sums(model.text.prompts.table.grad)})
        step.apply()
    return records


def _image_stage(model, cfg, cameras: bool) -> list[dict]:
    model.fix_text_features()
    parameters = [(n, p) for n, p in model.named_parameters() if not n.startswith(model.temporary)]
    step = TrainStep(model, build_optimizer(cfg.SOLVER, parameters), torch.device("cpu"))
    records = []
    for number in STEPS:
        batch = {"views": torch.stack([_images(view, number) for view in range(3)], dim=1)}
        batch["targets"] = torch.from_numpy(GOLDEN["y"][number])
        if cameras:
            batch["camids"] = torch.from_numpy(GOLDEN["cams"][number])
        losses = step.forward_backward(batch)
        records.append({"loss": float(losses["total_loss"]), "norm": float(model.backbone.visual.proj.grad.norm())})
        step.apply()
    return records


@pytest.fixture(scope="module")
def prompts_trained() -> dict:
    _, weight, lr, decay = (float(value) for value in GOLDEN["svll_s1_hyper_scale_weight_lr_wd"])
    model, cfg = _model("simclr", True, [lr, decay])
    states = [_copy(model)]
    records = _prompt_stage(model, cfg, weight)
    return {"model": model, "records": records, "states": [*states, _copy(model)]}


@pytest.fixture(scope="module", params=VISION)
def images_trained(request, prompts_trained) -> dict:
    """"s2" goes on from the prompts of stage 1, "s2simsiam" starts from fresh weights without side information."""
    continued = request.param == "s2"
    model, cfg = _model("simclr" if continued else "simsiam", continued, [5e-6, 1e-4])
    if continued:
        model.load_state_dict(prompts_trained["states"][1])
    before = _copy(model)
    records = _image_stage(model, cfg, continued)
    return {"tag": f"svll_{request.param}", "records": records, "states": [before, _copy(model)]}


def _assert_moved(tag: str, states) -> None:
    names = [case[0] for case in helpers.cases("trajectory", rf"{tag}_delta/(.+)")]
    assert names
    for name in names:
        before, after = (state[our_name(name)].double() for state in states)
        expected = GOLDEN[f"{tag}_delta/{name}"][2]
        np.testing.assert_allclose(helpers.sums(after - before)[2], expected, rtol=1e-3, atol=1e-9, err_msg=name)


def test_prompt_stage(prompts_trained):
    for number, ours in enumerate(prompts_trained["records"]):
        expected = GOLDEN[f"svll_s1_loss_step{number}"]
        np.testing.assert_allclose(ours["loss"], expected, rtol=1e-4 if number else 2e-5)
        np.testing.assert_allclose(ours["gradient"][1:], GOLDEN[f"svll_s1_grad_cls_ctx_step{number}"][1:], rtol=1e-3)
    head = GOLDEN["svll_s1_cls_ctx_head"]
    table = prompts_trained["states"][1]["text.prompts.table"]
    np.testing.assert_allclose(table[tuple(slice(size) for size in head.shape)], head, atol=2e-5)
    _assert_moved("svll_s1", prompts_trained["states"])


def test_image_stage(images_trained):
    tag = images_trained["tag"]
    for number, ours in enumerate(images_trained["records"]):
        np.testing.assert_allclose(ours["loss"], GOLDEN[f"{tag}_loss_step{number}"], rtol=1e-4 if number else 2e-5)
        np.testing.assert_allclose(ours["norm"], GOLDEN[f"{tag}_gradnorm_proj_step{number}"], rtol=1e-3)
    _assert_moved(tag, images_trained["states"])
