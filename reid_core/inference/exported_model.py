"""An exported model in use: loaded from its file alone, without the model's code, and run on the CPU."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from reid_core.inference.export_formats import METADATA_FILE, require_runtime
from reid_core.inference.export_graph import IMAGENET_MEAN, IMAGENET_STD, ExportError, first_line, quietly

FORMATS = {".onnx": "ONNX", ".pt2": "torch.export", ".torchscript": "TorchScript"}
"""Formats by the ending of the file."""

Run = Callable[[tuple[Tensor, ...]], Tensor]


class ExportedModel:
    """A file of `export_model`. `metadata`: what it says of itself (docs/export.md has the keys), text by name.

    path: the file, or what it would be called where `content` has its bytes. Runs on as many threads as torch.
    Raises ExportError for a file that is none of ours and for a runtime that is missing.
    """

    def __init__(self, path: str | Path, content: bytes | None = None):
        self.format = format_of(path)
        content = Path(path).read_bytes() if content is None else content
        load = {"ONNX": _load_onnx, "torch.export": _load_program, "TorchScript": _load_torchscript}[self.format]
        try:
            self._run, self.metadata = load(content)
            self.inputs = self.metadata["inputs"].split()
            self.input_size = tuple(int(side) for side in self.metadata["input_size"].split("x"))
        except ExportError:
            raise
        except Exception as error:  # each runtime has types of its own
            raise ExportError(f"{path} is no exported model of this toolkit: {first_line(error)}") from error

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None) -> Tensor:
        """Features float32 [N, D]. pixels: uint8 [N, 3, H, W], RGB, of the file's input size; they are brought into
        the file's pixel convention. camids, viewids: int64 [N], for a file that takes them; unknown without.

        Raises ValueError for images of another type or size, and for numbers that the file does not take."""
        if pixels.dtype != torch.uint8 or tuple(pixels.shape[1:]) != (3, *self.input_size):
            wanted, kind = ", ".join(map(str, self.input_size)), str(pixels.dtype).removeprefix("torch.")
            raise ValueError(f"The file takes uint8 images [N, 3, {wanted}], got {kind} {list(pixels.shape)}.")
        given = {"camids": camids, "viewids": viewids}
        for name, column in given.items():
            if column is not None and name not in self.inputs:
                raise ValueError(f"The file was exported without {name}; leave them out.")
        numbers = [given[name] for name in self.inputs[1:]]
        unknown = torch.full((len(pixels),), -1)
        return self._run((self._converted(pixels), *(unknown if column is None else column for column in numbers)))

    def _converted(self, pixels: Tensor) -> Tensor:
        if self.metadata["pixels"] == "pixels":
            return pixels
        unit = pixels.float() / 255
        if self.metadata["pixels"] == "unit":
            return unit
        mean, std = IMAGENET_MEAN, IMAGENET_STD
        if self.metadata["pixels"] == "model":
            mean, std = json.loads(self.metadata["pixel_mean"]), json.loads(self.metadata["pixel_std"])
        return (unit - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def format_of(path: str | Path) -> str:
    """The format that the ending of a path asks for. Raises ExportError for another ending."""
    suffix = Path(path).suffix
    if suffix not in FORMATS:
        known = ", ".join(f"{ending} ({name})" for ending, name in FORMATS.items())
        raise ExportError(f"The ending of {path} says no format; use one of {known}.")
    return FORMATS[suffix]


def _load_onnx(content: bytes) -> tuple[Run, dict[str, str]]:
    (onnxruntime,) = require_runtime("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(tensors: tuple[Tensor, ...]) -> Tensor:
        feeds = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        return torch.from_numpy(session.run(None, feeds)[0])

    return run, dict(session.get_modelmeta().custom_metadata_map)


def _load_program(content: bytes) -> tuple[Run, dict[str, str]]:
    extra = {METADATA_FILE: ""}
    with quietly():
        module = torch.export.load(io.BytesIO(content), extra_files=extra).module()
    return lambda tensors: module(*tensors), json.loads(extra[METADATA_FILE])


def _load_torchscript(content: bytes) -> tuple[Run, dict[str, str]]:
    extra = {METADATA_FILE: ""}
    with quietly():
        module = torch.jit.load(io.BytesIO(content), map_location="cpu", _extra_files=extra)
    return lambda tensors: module(*tensors), json.loads(extra[METADATA_FILE])
