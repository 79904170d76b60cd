"""The arithmetic of encoding: float32, or 16 bits with weights that are converted once instead of in every pass.

Autocast converts float32 weights in every pass; weights that are in 16 bits already it takes as they are. So the
features are those of autocast, bit for bit, without the conversions.

The converted weights also require a gradient, though none is recorded: only then torch joins the images of a batch into
one matrix product where the layer's input is not contiguous (as inside of torch's own attention module). Without, as
with the copies that autocast makes under inference mode, it multiplies image by image, with a copy of the weight for
each: six times slower for CLIP's ViT as open_clip computes it.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_MATRIX_WEIGHTS = {  # what autocast multiplies by; norms, biases and tables of embeddings stay in float32
    nn.Linear: ("weight",),
    nn.Conv2d: ("weight",),
    nn.MultiheadAttention: ("in_proj_weight",),
}


def native_16bit_dtype(device: torch.device) -> torch.dtype | None:
    """The 16-bit type that the device multiplies natively; None where there is none."""
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_multiplies_bfloat16() else None
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _cpu_multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it; elsewhere it is emulated, and slower than float32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def encoding_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The 16-bit type of a precision on the device, None for float32.

    precision: "float32", "bfloat16", "float16", or "auto" for what the device multiplies natively. Raises ValueError
    for another word, and for float16 on a CPU, which no processor multiplies fast.
    """
    if precision == "float32":
        return None
    if precision == "auto":
        return native_16bit_dtype(device)
    if precision not in DTYPES:
        raise ValueError(f"The precision of encoding must be float32, bfloat16, float16 or auto, got '{precision}'.")
    if precision == "float16" and device.type == "cpu":
        raise ValueError("The precision float16 is for GPUs; on a CPU choose bfloat16, auto or float32.")
    return DTYPES[precision]


@torch.inference_mode(False)  # tensors made in it could not require a gradient
def convert_weights(model: nn.Module, dtype: torch.dtype) -> list[tuple[nn.Parameter, Tensor, bool]]:
    """Convert the matrix weights of a model's backbone (of all of it, if it has none) to a 16-bit type, in place.

    Heads stay as they are: they are small, and may compute in float32 on purpose. Returns each converted parameter
    with its former values, and whether it required a gradient. The model must then run under `torch.autocast` with
    that type, and without recording gradients.
    """
    former = []
    for module in getattr(model, "backbone", model).modules():
        for kind, names in _MATRIX_WEIGHTS.items():
            for name in names if isinstance(module, kind) else ():
                weight = getattr(module, name)
                if weight is not None and weight.dtype == torch.float32:
                    former.append((weight, weight.data, weight.requires_grad))
                    weight.data = weight.data.to(dtype)
                    weight.requires_grad_(True)
    return former


@contextlib.contextmanager
def encoding_precision(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Inside of the block the model encodes in this 16-bit type (None: as it is); afterwards it has its former weights.

    The former weights stay in memory meanwhile. Not to be trained inside.
    """
    if dtype is None:
        yield
        return
    former = convert_weights(model, dtype)
    try:
        with torch.autocast(next(model.parameters()).device.type, dtype):
            yield
    finally:
        for weight, values, requires_grad in former:
            weight.data = values
            weight.requires_grad_(requires_grad)
