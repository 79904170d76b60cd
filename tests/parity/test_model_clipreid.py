"""The two-stage method's model, whole: features, scores, running statistics, names."""

import numpy as np
import pytest
import torch

from tests.parity import helpers
from tests.parity.models import OWN_BUFFERS, our_name, prompt_model

GOLDEN = helpers.load("model_clipreid")
CASES = [case[0] for case in helpers.cases("model_clipreid", r"(\w+?)_eval_before")]
EVALUATION = {"rtol": 0, "atol": 2e-5}
TRAINING = {"vit": {"rtol": 0, "atol": 2e-4}, "rn": {"rtol": 0, "atol": 1e-3}}  # BatchNorm amplifies rounding


def _case(case, neck_feature="before"):
    """(encoder, model, batch) of a case; what it needs is read from its keys: cameras, views, stride from its name."""
    encoder = "vit" if case.startswith("vit") else "rn"
    batch_size, num_identities = GOLDEN[f"{case}_train_score0"].shape
    overrides, batch = ["MODEL.HEADS.NECK_FEATURE", neck_feature], {}
    for key, option, ids in (("cams", "SIE_CAMERA", "camids"), ("views", "SIE_VIEW", "viewids")):
        if f"{case}_{key}" in GOLDEN:
            overrides += [f"MODEL.BACKBONE.{option}", "True"]
            batch[ids] = torch.from_numpy(GOLDEN[f"{case}_{key}"])
    if batch:
        overrides += ["MODEL.BACKBONE.SIE_COEFFICIENT", str(float(GOLDEN[f"{case}_sie_coe"]))]
    strides = [part[1:] for part in case.split("_") if part[:1] == "s" and part[1:].isdigit()]
    overrides += ["MODEL.BACKBONE.PATCH_STRIDE", *(strides or ["0"])]
    model, cfg = prompt_model(encoder, num_identities, overrides, cameras=6, views=3)
    batch["images"] = helpers.image_batch(int(GOLDEN["seed"]), batch_size, *cfg.INPUT.SIZE_TRAIN)
    return encoder, model, batch


def _assert_close(ours, key, tolerance):
    np.testing.assert_allclose(ours.detach().numpy(), GOLDEN[key], err_msg=key, **tolerance)


@pytest.mark.parametrize("case", CASES)
def test_features_scores_and_statistics(case):
    encoder, model, batch = _case(case)
    training = TRAINING[encoder]
    with torch.no_grad():
        model.eval()
        _assert_close(model(batch), f"{case}_eval_before", EVALUATION)
        _assert_close(model.shared_space_features(batch), f"{case}_get_image", EVALUATION)
        model.heads.neck_feature = "after"
        _assert_close(model(batch), f"{case}_eval_after", EVALUATION)
        model.train()
        features = model.image_features(batch)
        for number, feature in enumerate(features):
            _assert_close(feature, f"{case}_train_feat{number}", training)
        _assert_close(features.projected, f"{case}_train_proj", training)
        for number, score in enumerate(model.heads(features)):
            _assert_close(score, f"{case}_train_score{number}", training)
        state = model.state_dict()
        for (name,) in helpers.cases("model_clipreid", rf"{case}_after_(.+)"):
            _assert_close(state[our_name(name)], f"{case}_after_{name}", {"rtol": 1e-5, "atol": 2e-5})
        _assert_close(model.eval()(batch), f"{case}_eval_after_afterstep", training)


@pytest.mark.parametrize("case", CASES)
def test_what_is_saved(case):
    _, model, _ = _case(case)
    fixed_embeddings = {"prompt_learner.token_prefix", "prompt_learner.token_suffix"}  # ours: the whole template
    theirs = {our_name(name) for name in set(GOLDEN[f"{case}_state_keys"].tolist()) - fixed_embeddings}
    assert set(model.state_dict()) - OWN_BUFFERS == theirs
