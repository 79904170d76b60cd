"""The method with self-supervision: three views in training, augmented prompts of stage 1."""

import numpy as np
import pytest
import torch

from projects.SVLL_ReID import LanguageSupervisedPromptTuning
from projects.SVLL_ReID.prompt_augmentation import apply_mask, apply_swap
from tests.parity import helpers
from tests.parity.models import OWN_BUFFERS, our_name, self_supervised_model

GOLDEN = helpers.load("model_svll")
CASES = [case[0] for case in helpers.cases("model_svll", r"(\w+?)_eval_before")]
EVALUATION = {"rtol": 0, "atol": 2e-5}
TRAINING = {"rtol": 0, "atol": 2e-4}  # BatchNorm over a few samples amplifies rounding
AUGMENTED = [case[0] for case in helpers.cases("model_svll", r"s1_((?:mask|swap)[\d.]+)_text_feat")]


def _case(case):
    batch_size, num_identities = GOLDEN[f"{case}_train_score0"].shape
    stride = int(np.ravel(GOLDEN[f"{case}_stride"])[0])
    overrides = ["MODEL.BACKBONE.PATCH_STRIDE", str(stride), "SVLL.VISION_LOSS", case.partition("_")[0]]
    numbers = {}
    for key, option, ids in (("cams", "SIE_CAMERA", "camids"), ("views", "SIE_VIEW", "viewids")):
        overrides += [f"MODEL.BACKBONE.{option}", str(f"{case}_{key}" in GOLDEN)]
        if f"{case}_{key}" in GOLDEN:
            numbers[ids] = torch.from_numpy(GOLDEN[f"{case}_{key}"])
    overrides += ["MODEL.BACKBONE.SIE_COEFFICIENT", str(float(GOLDEN[f"{case}_sie_coe"]))]
    model, cfg = self_supervised_model(num_identities, overrides, cameras=6, views=3)
    seed = int(GOLDEN["seed"])
    views = [helpers.image_batch(seed + view, batch_size, *cfg.INPUT.SIZE_TRAIN) for view in range(3)]
    return model, {"images": views[0], "views": torch.stack(views, dim=1), **numbers}


def _assert_close(ours, key, tolerance):
    np.testing.assert_allclose(ours.detach().numpy(), GOLDEN[key], err_msg=key, **tolerance)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("in_one_pass", [True, False])
def test_views_scores_and_statistics(case, in_one_pass):
    model, batch = _case(case)
    assert model._views_in_one_pass
    model._views_in_one_pass = in_one_pass
    with torch.no_grad():
        if in_one_pass:
            _assert_close(model.eval()(batch), f"{case}_eval_before", EVALUATION)
            model.heads.neck_feature = "after"
            _assert_close(model(batch), f"{case}_eval_after", EVALUATION)
        model.train()
        plain, *others = model._encode_views(batch["views"], batch.get("camids"), batch.get("viewids"))
        for number, feature in enumerate(plain):
            _assert_close(feature, f"{case}_train_feat{number}", TRAINING)
        _assert_close(plain.projected, f"{case}_train_proj", TRAINING)
        for number, score in enumerate(model.heads(plain)):
            _assert_close(score, f"{case}_train_score{number}", TRAINING)
        embedded = model.image_head.project_views(*(features.last for features in others))
        for number, (features, embedding) in enumerate(zip(others, embedded, strict=True), start=1):
            _assert_close(features.last, f"{case}_train_z{number}", TRAINING)
            _assert_close(embedding, f"{case}_train_aug{number}_embed", TRAINING)
        state = model.state_dict()
        for (name,) in helpers.cases("model_svll", rf"{case}_after_(.+)"):
            _assert_close(state[our_name(name)], f"{case}_after_{name}", {"rtol": 1e-5, "atol": 2e-5})


@pytest.mark.parametrize("case", CASES)
def test_what_is_saved(case):
    model, _ = _case(case)
    theirs = {our_name(str(name)) for name in GOLDEN[f"{case}_state_keys"]} - {
        "heads.prompt_learner.token_prefix",
        "heads.prompt_learner.token_suffix",
    }
    if case.startswith("simsiam"):  # with the predictor the authors have no text projector
        ours = {name for name in model.state_dict() if not name.startswith("text_projector.")}
    else:
        ours = set(model.state_dict())
    kept = ("backbone.visual", "text.encoder")  # listed in other cases' files
    ours = {name for name in ours - OWN_BUFFERS if not name.startswith(kept)}
    assert {name for name in theirs if not name.startswith(kept)} == ours


def _recorded(case, prompts, view):
    """The authors' augmentation `view` of embedded prompts, by what they drew."""
    if case.startswith("mask"):
        shape = tuple(GOLDEN[f"s1_{case}_mask_shape"])
        bits = np.unpackbits(GOLDEN[f"s1_{case}_mask{view}_packed"])[: np.prod(shape)]
        return apply_mask(prompts, torch.from_numpy(bits.reshape(shape)).bool())
    positions, order = (torch.from_numpy(GOLDEN[f"s1_{case}_{name}{view}"]) for name in ("idx", "pos"))
    return apply_swap(prompts, positions, positions.gather(1, order))


@pytest.mark.parametrize("case", AUGMENTED)
def test_augmented_prompts_of_stage_one(case):
    num_identities = GOLDEN["simclr_train_score0"].shape[1]
    model, _ = self_supervised_model(num_identities)
    labels, identities = torch.from_numpy(GOLDEN["s1_label"]), torch.from_numpy(GOLDEN["s1_unique"])
    views = iter((1, 2))
    tuning = LanguageSupervisedPromptTuning(
        model.text, model.text_projector.train(), lambda prompts, length: _recorded(case, prompts, next(views))
    )
    expected = GOLDEN[f"s1_{case}_text_feat"]
    slots = (labels[:, None] == identities).int().argmax(dim=1)
    batch = {
        "features": torch.from_numpy(expected), "targets": labels, "identities": identities, "slots": slots
    }  # fmt: skip
    projected = []
    model.text_projector.register_forward_hook(lambda module, inputs, output: projected.append(output))
    losses = tuning(batch)
    ours = tuning.identity_features(identities)[slots].detach()
    np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())
    for view, embedding in enumerate(projected, start=1):
        _assert_close(embedding, f"s1_{case}_aug{view}_embed", TRAINING)
    state = model.state_dict()
    for (name,) in helpers.cases("model_svll", rf"s1_{case}_after_(.+)_head64"):
        key = f"s1_{case}_after_{name}_head64"
        _assert_close(state[our_name(name)][:64], key, {"rtol": 1e-4, "atol": 2e-5})
    assert float(losses["loss_language"]) > 0
