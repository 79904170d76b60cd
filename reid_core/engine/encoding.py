"""Encoding many images: features of a whole dataset, over all processes."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from reid_core.engine.step import synchronise_buffers, to_device
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.modeling.precision import encoding_dtype, encoding_precision
from reid_core.structures import Batch
from reid_core.utils import comm


@torch.no_grad()
def encode(
    model: MetaArchitecture,
    batches: Iterable[Batch],
    extract: Callable[[Batch], Tensor] | None = None,
    flip: bool = False,
    precision: str = "float32",
) -> Tensor:
    """Test features of every image, float32 [N, D] on the CPU, in the order of the batches' `indices`.

    extract: what is taken of a batch instead of the model's test features. flip: what is taken of the mirrored images
    is added to it; matching scales the sum to unit length if it is asked to. A batch then passes twice: that takes
    time, not memory. precision: see `encoding_dtype`. Each process passes the batches of its own share; all of them
    get the whole. The model is in evaluation mode meanwhile and back in its former mode afterwards.
    """
    was_training, extract = model.training, extract or model
    synchronise_buffers(model)
    model.eval()
    features, indices = [], []
    try:
        with encoding_precision(model, encoding_dtype(precision, model.device)):
            for batch in batches:
                batch = to_device(batch, model.device)
                found = extract(batch).float()
                features.append((found + extract(mirrored(batch)).float() if flip else found).cpu())
                indices.append(batch["indices"].cpu())
    finally:
        model.train(was_training)
    # A process may have no image at all, when there are fewer images than processes.
    width = max(comm.all_gather_objects(features[0].shape[1] if features else 0))
    own = (
        torch.cat([torch.empty(0, width), *features]),
        torch.cat([torch.empty(0, dtype=torch.int64), *indices]),
    )
    if comm.is_distributed():
        own = tuple(comm.all_gather_rows(part.to(model.device)).cpu() for part in own)
    ordered = torch.empty_like(own[0])
    ordered[own[1]] = own[0]
    return ordered


def mirrored(batch: Batch) -> Batch:
    """The batch with its images (or views) mirrored, left to right; the caller's batch is not changed."""
    return {key: value.flip(-1) if key in ("images", "views") else value for key, value in batch.items()}
