"""Our models with the golden weights, and the translation of the authors' parameter names."""

import numpy as np
import torch
from torch import nn

from reid_core.config import CfgNode
from reid_core.modeling.clip import resize_positions
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.projects import load_config
from tests.parity import helpers
from tests.paths import ROOT


def our_name(name: str) -> str:
    """`image_encoder.X`, `cv_embed`, `bottleneck.X`, `classifier.X` of the authors' models -> ours."""
    if name.startswith("image_encoder."):
        return "backbone.visual." + name.removeprefix("image_encoder.")
    if name == "cv_embed":
        return "backbone.cv_embed"
    return f"heads.{name}"


def prototype_model(
    num_identities: int, overrides: list[str] = (), cameras: int = 1, views: int = 1
) -> tuple[MetaArchitecture, CfgNode]:
    """The prototype method's published model, float32 on the CPU, holding the golden weights."""
    config_file = ROOT / "projects" / "PCL_CLIP" / "configs" / "market.yml"
    cfg = load_config(config_file, ["MODEL.BACKBONE.PRETRAINED", "", *overrides])
    model = build_model(cfg, "cpu", num_identities, cameras, views)
    load_golden_weights(model, "ViT-B-16")
    return model, cfg


def load_golden_weights(model: nn.Module, architecture: str) -> None:
    """Set every parameter and buffer by the formulas of the golden folder."""
    clip, extra = helpers.openai_state_dict(architecture), helpers.weights_module().extra
    state = model.state_dict()
    for key, value in state.items():
        if key.startswith("backbone.visual."):
            source = clip["visual." + key.removeprefix("backbone.visual.")]
            if "positional_embedding" in key:
                side = round((len(source) - 1) ** 0.5)
                source = resize_positions(source, (side, side), tuple(model.backbone.visual.grid))
            value.copy_(source)
        elif key.startswith(("heads.", "backbone.cv_embed")):
            name = key.removeprefix("heads.").removeprefix("backbone.")
            value.copy_(torch.from_numpy(np.asarray(extra(name, tuple(value.shape)))))
    model.load_state_dict(state)
