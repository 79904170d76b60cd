"""A captured model in the bytes of a file: ONNX (float32, float16, int8), torch.export, TorchScript."""

import importlib
import io
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reid_core.inference.export_graph import ExportError, first_line, quietly

if TYPE_CHECKING:
    import onnx

METADATA_FILE = "reid_core.json"
ONNX_LIMIT = 2**31 - 2**20  # of protobuf, in which one file is one message; the graph itself needs little
_FLOAT32_IN_FLOAT16 = ("ReduceL2",)  # squares of a whole feature may exceed 65504
_CONVOLUTIONS = 0.1  # share of the weights above which convolutions are quantised too


def require_runtime(*names: str) -> list[ModuleType]:
    """The modules of the extra "export". Raises ExportError, naming the one that is missing."""
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError as error:
            raise ExportError(
                f"ONNX files need {name.partition('.')[0]}, which cannot be imported ({error}): "
                "pip install 'reid-core[export]'."
            ) from error
    return modules


def onnx_bytes(
    program: torch.export.ExportedProgram,
    metadata: Mapping[str, str],
    inputs: tuple[str, ...],
    precision: str,
    opset: int,
) -> bytes:
    """An ONNX file. inputs: their names; the output is "features".

    precision: "float32"; "float16": weights and arithmetic, inputs and output stay as they are; "int8": weights of
    matrix products (and of convolutions, where they hold many of the weights), activations quantised as they come.
    Raises ExportError for weights of more than 2 GB, and for what the exporter refuses.
    """
    tensors = [*program.state_dict.values(), *program.constants.values()]
    size = sum(value.numel() * value.element_size() for value in tensors if isinstance(value, Tensor))
    if size > ONNX_LIMIT:
        raise ExportError(
            f"The weights take {size / 2**30:.1f} GB, and one ONNX file holds at most 2 GB. Export to .pt2 instead."
        )
    require_runtime("onnxscript")
    (onnx,) = require_runtime("onnx")
    try:
        with quietly():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(inputs),
                output_names=["features"],
                opset_version=opset,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors wrap whatever happened inside
        raise ExportError(f"torch.onnx.export failed (opset {opset}): {first_line(error)}") from error
    model = exported.model_proto
    _name_batch(model)
    if precision == "float16":
        model = _in_float16(model)
    elif precision == "int8":
        model = _in_int8(model)
    onnx.helper.set_model_props(model, dict(metadata))
    return model.SerializeToString()


def program_bytes(program: torch.export.ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """A .pt2 file; the metadata is its extra file `METADATA_FILE`."""
    buffer = io.BytesIO()
    with quietly():
        torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(dict(metadata))})
    return buffer.getvalue()


def torchscript_bytes(
    program: torch.export.ExportedProgram, metadata: Mapping[str, str], example: tuple[Tensor, ...]
) -> bytes:
    """A TorchScript file, traced; the metadata is its extra file `METADATA_FILE`.

    Raises ExportError where torch has no TorchScript any more.
    """
    if not hasattr(torch.jit, "trace"):
        raise ExportError(f"torch {torch.__version__} has no TorchScript any more. Export to .pt2 or .onnx instead.")
    module = program.module()
    for node in module.graph.nodes:
        if node.op == "call_function":
            node.target = _traceable(node.target)
    module.recompile()
    buffer = io.BytesIO()
    try:
        with torch.no_grad(), quietly():
            traced = torch.jit.trace(module, example, check_trace=False)
            torch.jit.save(traced, buffer, _extra_files={METADATA_FILE: json.dumps(dict(metadata))})
    except RuntimeError as error:
        raise ExportError(f"torch.jit.trace failed: {first_line(error)} Export to .pt2 or .onnx instead.") from error
    return buffer.getvalue()


def _rows(images: Tensor, dimension: int) -> int:
    return images.shape[dimension]


def _traceable(target: object) -> object:
    """Tracing follows a batch's size through methods of tensors, not through the operators that they stand for."""
    if target is torch.ops.aten.sym_size.int:
        return _rows
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        name = target.overloadpacket.__name__
        if name in ("expand", "view", "reshape"):
            return getattr(torch.Tensor, name)
    return target


def _name_batch(model: "onnx.ModelProto") -> None:
    """The first dimension of inputs and output is called "batch", whatever symbol it was captured as."""
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", dimension.dim_param)


def _in_float16(model: "onnx.ModelProto") -> "onnx.ModelProto":
    (float16,) = require_runtime("onnxruntime.transformers.float16")
    kept = [*float16.DEFAULT_OP_BLOCK_LIST, *_FLOAT32_IN_FLOAT16]
    with quietly():
        return float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=kept)


def _in_int8(model: "onnx.ModelProto") -> "onnx.ModelProto":
    onnx, quantization = require_runtime("onnx", "onnxruntime.quantization")
    (shape_inference,) = require_runtime("onnxruntime.quantization.shape_inference")
    kinds, weight_type = ["MatMul", "Gemm"], quantization.QuantType.QInt8
    if _share_of_convolutions(model) > _CONVOLUTIONS:
        kinds, weight_type = [*kinds, "Conv"], quantization.QuantType.QUInt8  # the runtime has no other kernel
    with tempfile.TemporaryDirectory() as folder, quietly():
        plain, folded, result = (Path(folder) / name for name in ("plain.onnx", "folded.onnx", "int8.onnx"))
        onnx.save(model, plain)
        # Constant parts are folded first: a weight that is split or transposed in the graph would not be found.
        shape_inference.quant_pre_process(str(plain), str(folded), skip_symbolic_shape=True)
        quantization.quantize_dynamic(
            folded, result, op_types_to_quantize=kinds, per_channel=True, weight_type=weight_type
        )
        return onnx.load(result)


def _share_of_convolutions(model: "onnx.ModelProto") -> float:
    """Of all numbers in initializers, those that a convolution reads."""
    sizes = {tensor.name: _count(tensor.dims) for tensor in model.graph.initializer}
    read = {name for node in model.graph.node if node.op_type == "Conv" for name in node.input}
    return sum(size for name, size in sizes.items() if name in read) / max(sum(sizes.values()), 1)


def _count(dimensions: list[int]) -> int:
    count = 1
    for dimension in dimensions:
        count *= dimension
    return count
