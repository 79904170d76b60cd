"""Export of a trained model: one file from pixels to features, compared with PyTorch before it is written."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from reid_core.config import CfgNode
from reid_core.inference.export_comparison import Agreement, compare_features
from reid_core.inference.export_formats import onnx_bytes, program_bytes, require_runtime, torchscript_bytes
from reid_core.inference.export_graph import PIXELS, ExportError, FeatureGraph, capture, side_inputs
from reid_core.inference.exported_model import ExportedModel, format_of
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.utils.file_io import write_atomically

FORMAT = "reid-core export 1"
PRECISIONS = ("float32", "float16", "int8")
TOLERANCE = 1e-4  # of unit-length features in float32, largest absolute difference
LEAST_COSINE = 0.9  # of float16 and int8 features to float32: below, something is broken


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    pixels: what the file takes as images, one of `PIXELS`. precision: of `PRECISIONS`; float16 and int8 in ONNX only.
    normalise: features of unit length. side_information: `camids` and `viewids` become inputs, as far as the model
    has embeddings for them; without, images are encoded without that embedding. opset: of ONNX, 18 or later.

    Raises ExportError for other values.
    """

    pixels: str = "unit"
    precision: str = "float32"
    normalise: bool = True
    side_information: bool = False
    opset: int = 18

    def __post_init__(self) -> None:
        for name, value, known in (("pixels", self.pixels, PIXELS), ("precision", self.precision, PRECISIONS)):
            if value not in known:
                raise ExportError(f"{name} must be one of {', '.join(known)}, got '{value}'.")
        if self.opset < 18:
            raise ExportError(f"opset must be 18 or later, which is where torch's exporter begins, got {self.opset}.")


def export_model(
    model: MetaArchitecture, cfg: CfgNode, path: str | Path, options: ExportOptions | None = None
) -> Agreement:
    """Write a model as .onnx, .pt2 or .torchscript, whole or not at all; returns how its features agree with PyTorch.

    model: on the CPU; it is in evaluation mode afterwards. cfg: the config that it was built from. The file takes any
    number of images of INPUT.SIZE_TEST. It is written only if its features, of random images in batches of 1, 3 and
    16, are PyTorch's within `TOLERANCE` (float32), or have a cosine of at least `LEAST_COSINE` with them.

    Raises ExportError for a format or option that does not fit, a missing package, weights that are too large, and
    features that differ.
    """
    path, options = Path(path).expanduser(), options or ExportOptions()
    kind = format_of(path)
    _check(model, path, kind, options)
    size = tuple(cfg.INPUT.SIZE_TEST)
    sides = side_inputs(model) if options.side_information else ()
    graph = FeatureGraph(model.eval(), options.pixels, options.normalise, sides)
    program = capture(graph, size)
    metadata = _metadata(model, cfg, options, graph)
    if kind == "ONNX":
        content = onnx_bytes(program, metadata, ("images", *sides), options.precision, options.opset)
    elif kind == "torch.export":
        content = program_bytes(program, metadata)
    else:
        images = torch.zeros(2, 3, *size, dtype=torch.uint8 if options.pixels == "pixels" else torch.float32)
        content = torchscript_bytes(program, metadata, (images, *(torch.zeros(2, dtype=torch.int64) for _ in sides)))
    agreement = compare_features(model, ExportedModel(path, content))
    _check_agreement(agreement, path, options.precision)
    write_atomically(path, content)
    return agreement


def _check(model: MetaArchitecture, path: Path, kind: str, options: ExportOptions) -> None:
    """What can be known before any work."""
    if path.is_dir():
        raise ExportError(f"{path} is a folder; name a file.")
    if model.device.type != "cpu":
        raise ExportError(f"The model to export must be on the CPU, it is on {model.device}.")
    if kind == "ONNX":
        require_runtime("onnx", "onnxscript", "onnxruntime")
    elif options.precision != "float32":
        raise ExportError(f"The precision {options.precision} is for .onnx; {path.name} is written in float32.")
    if options.side_information and not side_inputs(model):
        raise ExportError("The model was trained without side information: there are no numbers to take.")


def _metadata(model: MetaArchitecture, cfg: CfgNode, options: ExportOptions, graph: FeatureGraph) -> dict[str, str]:
    """What stands in the file about itself."""
    height, width = cfg.INPUT.SIZE_TEST
    return {
        "format": FORMAT,
        "model": type(model).__name__,
        "inputs": " ".join(("images", *graph.sides)),
        "output": "features",
        "normalised": str(options.normalise).lower(),
        "input_size": f"{height}x{width}",
        "channels": "RGB",
        "resize": cfg.INPUT.INTERPOLATION_TEST,
        "pixels": options.pixels,
        "pixels_meaning": PIXELS[options.pixels],
        "pixel_mean": json.dumps(list(cfg.MODEL.PIXEL_MEAN)),
        "pixel_std": json.dumps(list(cfg.MODEL.PIXEL_STD)),
        "precision": options.precision,
        "config_sha256": hashlib.sha256(cfg.dump().encode()).hexdigest(),
    }


def _check_agreement(agreement: Agreement, path: Path, precision: str) -> None:
    """Raise ExportError for a file that must not be used."""
    if precision == "float32":
        if not agreement.largest_difference <= TOLERANCE:  # NaN is refused too
            raise ExportError(
                f"{path} was not written: its features differ from PyTorch's by up to "
                f"{agreement.largest_difference:.2g}, more than {TOLERANCE:g}."
            )
    elif not agreement.least_cosine >= LEAST_COSINE:
        raise ExportError(
            f"{path} was not written: in {precision} its features have a cosine of {agreement.least_cosine:.3f} only "
            "with those in float32. Export in float32."
        )
