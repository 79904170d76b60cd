"""Checkpoints under the authors' names, as their programs save them, converted and evaluated."""

import os
from collections import OrderedDict

import numpy as np
import pytest
import torch

from reid_core.inference.building import build_from_content
from reid_core.inference.conversion import convert_checkpoint
from reid_core.modeling.checkpoint import read_checkpoint
from reid_core.modeling.clip import resize_positions, tokenize_template
from reid_core.projects import load_config
from tests.parity import helpers
from tests.paths import ROOT

TOPICS = {  # topic -> (config for the ViT, for the RN50, key that gives the number of identities)
    "clipreid": ("CLIP_ReID/configs/market_vit.yml", "CLIP_ReID/configs/market_rn50.yml", "train_score0"),
    "pclclip": ("PCL_CLIP/configs/market.yml", None, "train_logit"),
    "svll": ("SVLL_ReID/configs/market.yml", None, "train_score0"),
}
FEATURES = {"eval_before": "before", "eval_after": "after", "eval_feat": None}  # key -> MODEL.HEADS.NECK_FEATURE
CASES = sorted(
    (topic, case[0])
    for topic in TOPICS
    for case in helpers.cases(f"model_{topic}", r"(\w+?)_(?:eval_before|eval_feat)")
)
DATA = {"market1501": ("market", "person"), "veri": ("veri", "vehicle"), "VehicleID": ("vehicleid", "vehicle")}
TEXTS = {  # of two datasets with one text the last: converting takes seconds
    (encoder, DATA[dataset][1]): dataset
    for encoder, dataset in helpers.cases("text_prompt", r"(ViT|RN50)_(\w+?)_text_feat")
}
CAMERAS, VIEWS = 6, 3
TOLERANCE = {"rtol": 0, "atol": 2e-5}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def their_state(names, architecture, shapes, input_size, stride, kind="person"):
    """A state dict of the authors' model: CLIP's weights, and `extra` for names with a shape."""
    clip, extra = helpers.openai_state_dict(architecture), helpers.weights_module().extra
    height, width = ((side - 16) // stride + 1 for side in input_size)
    token_ids = tokenize_template(f"A photo of a X X X X {kind}.", f"{architecture}-quickgelu").token_ids
    embedded = clip["token_embedding.weight"][token_ids]
    state = {}
    for name in names:
        part, _, rest = name.partition(".")
        if part == "image_encoder":
            value = clip[f"visual.{rest}"]
            if rest.endswith("positional_embedding"):
                side = round((len(value) - 1) ** 0.5)
                value = resize_positions(value, (side, side), (height, width))
        elif part == "text_encoder":
            value = clip[rest]
        elif rest in ("token_prefix", "token_suffix"):
            prefix = 5  # the start token and "A photo of a"
            value = (embedded[:prefix] if rest == "token_prefix" else embedded[prefix + 4 :])[None]
        else:
            value = torch.from_numpy(np.asarray(extra(name, shapes[name])))
        state[name] = value
    return state


def _shapes(topic, case, golden, rows):
    """Shapes of what is not CLIP's: of the file where it has them, else by the widths of features and scores."""
    if f"{case}_state_shapes" in golden:
        listed = zip(golden[f"{case}_state_keys"].tolist(), golden[f"{case}_state_shapes"].tolist(), strict=True)
        return {name: tuple(int(number) for number in text.strip("(),").split(",") if number) for name, text in listed}
    identities = golden[f"{case}_{TOPICS[topic][2]}"].shape[1]
    if topic == "pclclip":
        projected = len(golden[f"{case}_bottleneck_proj_mean_after"])
        last = len(golden[f"{case}_bottleneck_mean_after"])
        shapes = {"classifier.weight": (identities, last + projected)}
    else:
        last, projected = golden[f"{case}_train_feat1"].shape[1], golden[f"{case}_train_feat2"].shape[1]
        shapes = {
            "classifier.weight": (identities, last),
            "classifier_proj.weight": (identities, projected),
            "prompt_learner.cls_ctx": (identities, 4, 512),
        }
    for neck, width in (("bottleneck", last), ("bottleneck_proj", projected)):
        shapes |= {f"{neck}.{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{neck}.num_batches_tracked"] = ()
    return {**shapes, "cv_embed": (rows, last)}


def _names(golden, case, architecture):
    """Names of the authors' state dict; the encoders' from CLIP's own where the file leaves them out."""
    names = golden[f"{case}_state_keys"].tolist()
    if not any(name.startswith("image_encoder.") for name in names):
        text = ("transformer.", "positional_embedding", "ln_final.", "text_projection")
        for name in helpers.openai_state_dict(architecture):
            if name.startswith("visual."):
                names.append("image_encoder." + name.removeprefix("visual."))
            elif name.startswith(text):
                names.append(f"text_encoder.{name}")
    return names


def _saved(state, form, path):
    """In one of the forms in which checkpoints are met."""
    if form == 1:
        state = OrderedDict((f"module.{name}", value) for name, value in state.items())
    torch.save({"state_dict": state, "epoch": 60} if form == 2 else OrderedDict(state), path)
    return path


@pytest.mark.parametrize(("number", "topic", "case"), [(number, *case) for number, case in enumerate(CASES)])
def test_a_converted_checkpoint_has_the_authors_features(number, topic, case, tmp_path):
    golden = helpers.load(f"model_{topic}")
    is_resnet = case.startswith("rn")
    architecture = "RN50" if is_resnet else "ViT-B-16"
    overrides, batch, rows = [], {}, 1
    for key, option, ids, count in (
        ("cams", "SIE_CAMERA", "camids", CAMERAS),
        ("views", "SIE_VIEW", "viewids", VIEWS),
    ):
        used = f"{case}_{key}" in golden
        overrides += [f"MODEL.BACKBONE.{option}", str(used)]
        if used:
            batch[ids], rows = torch.from_numpy(golden[f"{case}_{key}"]), rows * count
    overrides += ["MODEL.BACKBONE.SIE_COEFFICIENT", str(float(golden[f"{case}_sie_coe"]))]
    strides = [int(part[1:]) for part in case.split("_") if part[:1] == "s" and part[1:].isdigit()]
    stride = int(np.ravel(golden[f"{case}_stride"])[0]) if f"{case}_stride" in golden else (*strides, 16)[0]

    cfg = load_config(ROOT / "projects" / TOPICS[topic][is_resnet], overrides)
    shapes = _shapes(topic, case, golden, rows)
    state = their_state(_names(golden, case, architecture), architecture, shapes, cfg.INPUT.SIZE_TRAIN, stride)
    source, output = _saved(state, number % 3, tmp_path / "authors.pth"), tmp_path / "converted.pt"
    report = convert_checkpoint(source, output, cfg, num_cameras=CAMERAS if rows > 1 and "camids" in batch else 0)

    fate = {entry.source: entry for entry in report.entries if entry.source}
    assert set(fate) == set(state)  # an answer for every name
    assert all(entry.target or entry.note.startswith("not kept: text") for entry in fate.values())
    content = read_checkpoint(output)
    assert {entry.target for entry in report.entries if entry.target} == set(content["model"])
    cfg, model = build_from_content(content, output)
    batch["images"] = helpers.image_batch(
        int(golden["seed"]), len(golden[f"{case}_{TOPICS[topic][2]}"]), *cfg.INPUT.SIZE_TEST
    )
    with torch.no_grad():
        features = model.backbone(batch["images"], batch.get("camids"), batch.get("viewids"))
        for key in sorted(FEATURES.keys() & {name.removeprefix(f"{case}_") for name in golden}):
            model.heads.neck_feature = FEATURES[key]
            np.testing.assert_allclose(model.heads(features), golden[f"{case}_{key}"], err_msg=key, **TOLERANCE)


@pytest.mark.parametrize(("encoder", "dataset"), [(encoder, dataset) for (encoder, _), dataset in TEXTS.items()])
def test_converted_prompts_give_the_authors_text_features(encoder, dataset, tmp_path):
    golden = helpers.load("text_prompt")
    architecture = {"ViT": "ViT-B-16", "RN50": "RN50"}[encoder]
    topic, case = ("clipreid", "vit" if encoder == "ViT" else "rn50")
    names = [name for name in helpers.load("model_clipreid")[f"{case}_state_keys"].tolist() if name != "cv_embed"]
    run = "vit" if encoder == "ViT" else "rn50"
    data, kind = DATA[dataset]
    cfg = load_config(ROOT / "projects" / "CLIP_ReID" / "configs" / f"{data}_{run}.yml")
    shapes = _shapes(topic, case, helpers.load("model_clipreid"), 1)
    for name in ("classifier.weight", "classifier_proj.weight", "prompt_learner.cls_ctx"):
        shapes[name] = (int(golden["num_classes"]), *shapes[name][1:])
    state = their_state(names, architecture, shapes, cfg.INPUT.SIZE_TRAIN, 16, kind)
    source = _saved(state, 0, tmp_path / "authors.pth")
    convert_checkpoint(source, tmp_path / "converted.pt", cfg)
    ours = read_checkpoint(tmp_path / "converted.pt")["model"]["text_features"]
    expected = golden[f"{encoder}_{dataset}_text_feat"]
    tolerance = 2e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(ours[golden["labels"]], expected, rtol=0, atol=tolerance)
