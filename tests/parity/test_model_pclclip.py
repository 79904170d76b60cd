"""The prototype method's model, whole: features, logits, running statistics, what is trained."""

import numpy as np
import pytest
import torch

from tests.parity import helpers
from tests.parity.models import our_name, prototype_model

GOLDEN = helpers.load("model_pclclip")
CASES = [case[0] for case in helpers.cases("model_pclclip", r"(\w+?)_eval_feat")]
EVALUATION = {"rtol": 0, "atol": 2e-5}
TRAINING = {"rtol": 0, "atol": 2e-4}  # BatchNorm over a few samples amplifies rounding


def _case(case):
    """(model, batch) of a case; what it needs is read from its keys: camera and view numbers, stride from its name."""
    batch_size, num_identities = GOLDEN[f"{case}_train_logit"].shape
    overrides, batch = [], {}
    for key, option, ids in (("cams", "SIE_CAMERA", "camids"), ("views", "SIE_VIEW", "viewids")):
        if f"{case}_{key}" in GOLDEN:
            overrides += [f"MODEL.BACKBONE.{option}", "True"]
            batch[ids] = torch.from_numpy(GOLDEN[f"{case}_{key}"])
    if batch:
        overrides += ["MODEL.BACKBONE.SIE_COEFFICIENT", str(float(GOLDEN[f"{case}_sie_coe"]))]
    stride = case.removeprefix("s") if case.startswith("s") and case[1:].isdigit() else "0"
    overrides += ["MODEL.BACKBONE.PATCH_STRIDE", stride]
    model, cfg = prototype_model(num_identities, overrides, cameras=6, views=3)
    batch["images"] = helpers.image_batch(int(GOLDEN["seed"]), batch_size, *cfg.INPUT.SIZE_TRAIN)
    return model, batch


def _assert_close(ours, key, tolerance):
    np.testing.assert_allclose(ours.detach().numpy(), GOLDEN[key], err_msg=key, **tolerance)


@pytest.mark.parametrize("case", CASES)
def test_features_logits_and_statistics(case):
    model, batch = _case(case)
    with torch.no_grad():
        _assert_close(model.eval()(batch), f"{case}_eval_feat", EVALUATION)
        model.train()
        feature = model.features(batch)
        _assert_close(feature, f"{case}_train_feat", TRAINING)
        _assert_close(model.heads.classifier(feature), f"{case}_train_logit", TRAINING)
        for neck in ("bottleneck", "bottleneck_proj"):
            norm = getattr(model.heads, neck)
            _assert_close(norm.running_mean, f"{case}_{neck}_mean_after", EVALUATION)
            _assert_close(norm.running_var, f"{case}_{neck}_var_after", EVALUATION)
            assert int(norm.num_batches_tracked) == int(GOLDEN[f"{case}_{neck}_nbt_after"])
        _assert_close(model.eval()(batch), f"{case}_eval_feat_after_step", EVALUATION)


@pytest.mark.parametrize("case", CASES)
def test_what_is_trained_and_saved(case):
    model, _ = _case(case)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert trained == {our_name(name) for name in GOLDEN[f"{case}_trainable"]}
    assert frozen == {our_name(name) for name in GOLDEN[f"{case}_frozen"]}
    own_additions = {"memory.prototypes", "backbone.position_grid"}
    assert set(model.state_dict()) - own_additions == {our_name(name) for name in GOLDEN[f"{case}_state_keys"]}
