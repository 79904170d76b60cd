"""The authors' checkpoints as ours: CLIP-ReID's, and the two multilayer perceptrons."""

from collections.abc import Mapping

from torch import Tensor

from projects.CLIP_ReID import CLIPReIDConverter
from reid_core.config import CfgNode
from reid_core.modeling.conversion import Sizes
from reid_core.registry import CONVERTER_REGISTRY


@CONVERTER_REGISTRY.register(name="SVLLReID")
class SVLLReIDConverter(CLIPReIDConverter):
    """CLIP-ReID's names, `image_mlp.X` and `text_mlp.X`. Which terms the file was trained with, and how wide their
    layers are, is read off it."""

    names = (
        *CLIPReIDConverter.names,
        (r"image_mlp\.(?:layer|linear)(\d.+)", r"image_head.linear\1"),
        (r"image_mlp\.(bn\d.+)", r"image_head.\1"),
        (r"text_mlp\.(?:layer|linear)(\d.+)", r"text_projector.linear\1"),
        (r"text_mlp\.(bn\d.+)", r"text_projector.\1"),
    )

    def sizes(self, state: Mapping[str, Tensor], cfg: CfgNode, num_cameras: int, num_views: int) -> Sizes:
        sizes = super().sizes(state, cfg, num_cameras, num_views)
        image, text = _widths(state, "image_head"), _widths(state, "text_projector")
        wanted = {
            "SVLL.VISION_TERM": (bool(image), "image_mlp"),
            "INPUT.EXTRA_VIEWS": (2 if image else 0, "image_mlp"),
            "SVLL.LANGUAGE_TERM": (bool(text), "text_mlp"),
        }
        if image:
            wanted["SVLL.VISION_LOSS"] = ("simsiam" if len(image) == 2 else "simclr", "image_mlp")
        if len(image) == 2:
            wanted["SVLL.PREDICTOR_HIDDEN_WIDTH"] = (image[0], "image_mlp")
        for widths, name in ((text, "text_mlp"), (image, "image_mlp")):
            if len(widths) == 3:
                wanted["SVLL.PROJECTOR_HIDDEN_WIDTH"] = (widths[0], name)
                wanted["SVLL.PROJECTOR_OUTPUT_WIDTH"] = (widths[-1], name)
        for key, (value, name) in wanted.items():
            if cfg.value_of(key) != value:
                known = any(ours.startswith(("image_head", "text_projector")[name == "text_mlp"]) for ours in state)
                sizes.changes[key] = (value, f"follows from the source's {name}" if known else f"it has no {name}")
        return sizes


def _widths(state: Mapping[str, Tensor], part: str) -> list[int]:
    """Output widths of a perceptron's linear layers, by our names; empty if there is none."""
    layers = sorted(name for name in state if name.startswith(f"{part}.linear") and name.endswith(".weight"))
    return [len(state[name]) for name in layers]
