"""A trained model as one function of tensors, pixels to features, and its capture by torch.export."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.structures import ImageFeatures

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PIXELS = {
    "pixels": "uint8, 0 to 255",
    "unit": "float32, pixel / 255",
    "imagenet": f"float32, (pixel / 255 - mean) / std of ImageNet: mean {IMAGENET_MEAN}, std {IMAGENET_STD}",
    "model": "float32, (pixel / 255 - mean) / std of the model's own pixel_mean and pixel_std",
}
"""What an exported model may take as images, RGB [N, 3, H, W], by name."""


class ExportError(ValueError):
    """A model that cannot be exported as asked; the message says why and what to do."""


class FeatureGraph(nn.Module):
    """What is exported: images [N, 3, H, W] (and numbers of `sides`) -> features float32 [N, D].

    pixels: one of `PIXELS`. normalise: scale the features to unit length. sides: which of "camids" and "viewids",
    int64 [N], -1 for unknown, follow the images; the others are unknown.
    """

    def __init__(self, model: MetaArchitecture, pixels: str, normalise: bool, sides: tuple[str, ...]):
        super().__init__()
        self.model = _with_table_looked_up(model) if sides else model
        self.pixels, self.normalise, self.sides = pixels, normalise, sides
        if pixels in ("unit", "imagenet"):
            given = (1.0, 0.0) if pixels == "unit" else (_column(IMAGENET_STD), _column(IMAGENET_MEAN))
            scale, shift = (255 * part for part in given)
            self.register_buffer("scale", scale / model.pixel_std)
            self.register_buffer("shift", (shift - model.pixel_mean) / model.pixel_std)

    def forward(self, images: Tensor, *numbers: Tensor) -> Tensor:
        if self.pixels in ("unit", "imagenet"):
            images = images * self.scale + self.shift
        features = self.model({"images": images, **dict(zip(self.sides, numbers, strict=True))}).float()
        return F.normalize(features, dim=1) if self.normalise else features


class _TableLookedUp(nn.Module):
    """A CLIP backbone whose side information is read without checking the numbers: what depends on values cannot be
    captured. Numbers beyond the table are an error of the runtime all the same."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None) -> ImageFeatures:
        backbone = self.backbone
        given = ((camids, backbone.num_cameras), (viewids, backbone.num_views))
        given = [(numbers, count) for numbers, count in given if count]
        rows = torch.zeros_like(given[0][0])
        known = torch.ones_like(rows, dtype=torch.bool)
        for numbers, count in given:
            rows, known = rows * count + numbers.clamp(min=0), known & (numbers >= 0)
        return backbone.visual(images, backbone.sie_coefficient * backbone.cv_embed[rows] * known[:, None])


def side_inputs(model: MetaArchitecture) -> tuple[str, ...]:
    """Names of the numbers that the model has embeddings for."""
    return tuple(name for name, count in zip(("camids", "viewids"), model.side_information, strict=True) if count)


def capture(graph: FeatureGraph, size: tuple[int, int]) -> torch.export.ExportedProgram:
    """The graph for any number of images of the size (H, W), in evaluation mode.

    Raises ExportError for a model that torch.export cannot follow.
    """
    images = torch.zeros(2, 3, *size, dtype=torch.uint8 if graph.pixels == "pixels" else torch.float32)
    numbers = tuple(torch.zeros(2, dtype=torch.int64) for _ in graph.sides)
    batch = torch.export.Dim("batch", min=1)
    shapes: dict = {"images": {0: batch}}
    if numbers:
        shapes["numbers"] = tuple({0: batch} for _ in numbers)
    try:
        with torch.no_grad(), quietly():
            # strict: len(images) in a model's code stays the batch's size; traced otherwise it would become 2
            program = torch.export.export(graph.eval(), (images, *numbers), dynamic_shapes=shapes, strict=True)
    except Exception as error:  # torch raises types of many modules, private ones among them
        raise ExportError(
            f"{type(graph.model).__name__} cannot be captured by torch.export: {first_line(error)} A forward pass must "
            "not branch on the values of tensors."
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names of this machine's files
    return program


def first_line(error: Exception) -> str:
    """What an error says first; exporters and runtimes write pages."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def quietly() -> Iterator[None]:
    """Without what the exporters say to their own authors: deprecations, what was not folded."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx", "torch.__trace")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def _with_table_looked_up(model: MetaArchitecture) -> MetaArchitecture:
    """The model, sharing its weights, with a backbone that can be captured with side information."""
    model = copy.copy(model)
    model._modules = dict(model._modules)
    model.backbone = _TableLookedUp(model.backbone)
    return model
