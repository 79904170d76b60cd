"""Our models with the golden weights, and the translation of the authors' parameter names."""

import re
from pathlib import Path

import numpy as np
import torch
from torch import nn

from reid_core.config import CfgNode
from reid_core.modeling.clip import resize_positions, tokenize_template
from reid_core.modeling.heads import Predictor
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.projects import load_config
from tests.parity import helpers
from tests.paths import ROOT

ENCODERS = {"vit": "ViT-B-16", "rn": "RN50"}
"""Names of the encoders in cases -> names of the golden weights."""


OWN_BUFFERS = {"backbone.position_grid", "text_features", "text.prompts.template", "text.prompts.token_ids"}
"""What our models save and the authors' do not."""


def our_name(name: str) -> str:
    """`image_encoder.X`, `cv_embed`, `bottleneck.X`, `text_encoder.X` ... of the authors' models -> ours."""
    if name.startswith("image_encoder."):
        return "backbone.visual." + name.removeprefix("image_encoder.")
    if name.startswith("text_encoder."):
        return "text.encoder." + name.removeprefix("text_encoder.")
    if name == "cv_embed":
        return "backbone.cv_embed"
    if name == "prompt_learner.cls_ctx":
        return "text.prompts.table"
    if name.startswith(("image_mlp.", "text_mlp.")):
        ours = {"image_mlp": "image_head", "text_mlp": "text_projector"}[name.partition(".")[0]]
        return f"{ours}." + re.sub(r"^(layer|linear)(?=\d)", "linear", name.partition(".")[2])
    return f"heads.{name}"


def prototype_model(
    num_identities: int, overrides: list[str] = (), cameras: int = 1, views: int = 1
) -> tuple[MetaArchitecture, CfgNode]:
    """The prototype method's published model, float32 on the CPU, holding the golden weights."""
    config_file = ROOT / "projects" / "PCL_CLIP" / "configs" / "market.yml"
    return golden_model(config_file, "ViT-B-16", num_identities, overrides, cameras, views)


def prompt_model(
    encoder: str, num_identities: int, overrides: list[str] = (), cameras: int = 1, views: int = 1
) -> tuple[MetaArchitecture, CfgNode]:
    """The same of the two-stage method with prompts. encoder: "vit" or "rn"."""
    run = {"vit": "market_vit.yml", "rn": "market_rn50.yml"}[encoder]
    config_file = ROOT / "projects" / "CLIP_ReID" / "configs" / run
    return golden_model(config_file, ENCODERS[encoder], num_identities, overrides, cameras, views)


def self_supervised_model(
    num_identities: int, overrides: list[str] = (), cameras: int = 1, views: int = 1
) -> tuple[MetaArchitecture, CfgNode]:
    """The same of the two-stage method with self-supervision."""
    config_file = ROOT / "projects" / "SVLL_ReID" / "configs" / "market.yml"
    return golden_model(config_file, "ViT-B-16", num_identities, overrides, cameras, views)


def golden_model(
    config_file: Path, architecture: str, num_identities: int, overrides: list[str], cameras: int, views: int
) -> tuple[MetaArchitecture, CfgNode]:
    """The model of a config, float32 on the CPU, holding the golden weights."""
    cfg = load_config(config_file, ["MODEL.BACKBONE.PRETRAINED", "", *overrides])
    model = build_model(cfg, "cpu", num_identities, cameras, views)
    load_golden_weights(model, architecture)
    return model, cfg


def load_golden_weights(model: nn.Module, architecture: str) -> None:
    """Set every parameter and buffer by the formulas of the golden folder; text features stay as they are."""
    clip, extra = helpers.openai_state_dict(architecture), helpers.weights_module().extra
    state = model.state_dict()
    for key, value in state.items():
        if key.startswith("backbone.visual."):
            source = clip["visual." + key.removeprefix("backbone.visual.")]
            if "positional_embedding" in key:
                side = round((len(source) - 1) ** 0.5)
                source = resize_positions(source, (side, side), tuple(model.backbone.visual.grid))
            value.copy_(source)
        elif key.startswith("text.encoder."):
            value.copy_(clip[key.removeprefix("text.encoder.")])
        elif key == "text.prompts.table":
            value.copy_(torch.from_numpy(np.asarray(extra("prompt_learner.cls_ctx", tuple(value.shape)))))
        elif key.startswith(("image_head.", "text_projector.")):
            value.copy_(torch.from_numpy(np.asarray(extra(_their_projector_name(key, model), tuple(value.shape)))))
        elif key.startswith(("heads.", "backbone.cv_embed")):
            name = key.removeprefix("heads.").removeprefix("backbone.")
            value.copy_(torch.from_numpy(np.asarray(extra(name, tuple(value.shape)))))
    if "text.prompts.template" in state:
        ids = tokenize_template("A photo of a X X X X person.", f"{architecture}-quickgelu").token_ids
        state["text.prompts.template"].copy_(clip["token_embedding.weight"][ids])
    model.load_state_dict(state)


def _their_projector_name(key: str, model: nn.Module) -> str:
    """`image_head.linear2.weight` -> `image_mlp.layer2.weight`; the predictor's first layer is `linear1` with them."""
    part, _, name = key.partition(".")
    if part == "text_projector":
        return "text_mlp." + name.replace("linear", "layer")
    if isinstance(model.image_head, Predictor) and name.startswith("linear1"):
        return f"image_mlp.{name}"
    return "image_mlp." + name.replace("linear", "layer")
