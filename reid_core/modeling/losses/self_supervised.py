"""Self-supervised losses: two views of the same thing should have the same feature."""

import torch
from torch import Tensor
from torch.nn import functional as F

from reid_core.modeling.losses.contrastive import full_precision
from reid_core.utils import comm


def simclr_loss(
    first: Tensor, second: Tensor, temperature: float, equal: bool = False, gather: bool = True
) -> Tensor:
    """NT-Xent (Chen et al. 2020, section 2.1): each row must find its other view among all other rows of both views.

    first, second: [B, D] float, row i of both from the same item; L2-normalised here. Returns the mean over both
    directions, a scalar. A single item has nothing to be told from: loss and gradient are 0, as for no item.

    With several processes, rows of all of them are the negatives, and every process returns the loss of the global
    batch. Each also differentiates it for all rows, so gradients averaged over processes, not summed, are those of
    the global batch in one process. equal: all processes hold the same number of rows (the device is not waited for).
    gather: False where every process passes the rows of the global batch already.
    Raises ValueError if the temperature is not positive or the shapes differ.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    _check_shapes(2, first=first, second=second)
    with torch.autocast(first.device.type, enabled=False):  # 16-bit cosines over 0.1 are too coarse
        views = torch.stack([_unit(first), _unit(second)], dim=1)  # [B, 2, D]: both travel together
        views = comm.all_gather_with_gradient(views, equal) if gather else views
        rows = views.transpose(0, 1).flatten(0, 1)  # [2N, D]: all first views, then all second views
        logits = (rows @ rows.T / temperature).fill_diagonal_(float("-inf"))
    if not len(rows):
        return rows.sum()
    targets = torch.arange(len(rows), device=rows.device).roll(len(views))
    return F.cross_entropy(logits, targets)


def simsiam_loss(
    predicted_first: Tensor, predicted_second: Tensor, target_first: Tensor, target_second: Tensor
) -> Tensor:
    """-(cos(predicted_first, target_second) + cos(predicted_second, target_first)) / 2 (Chen and He 2021, section 3).

    All [B, D] float, row i from the same item; no gradient reaches the targets. Returns the mean over the batch, a
    scalar in [-1, 1]. Raises ValueError if the shapes differ.
    """
    predicted, targets = _crossed(2, predicted_first, predicted_second, target_first, target_second)
    return -(predicted * targets).sum(dim=-1).mean()


def simsiam_min_loss(
    predicted_first: Tensor, predicted_second: Tensor, target_first: Tensor, target_second: Tensor
) -> Tensor:
    """`simsiam_loss` for items of several rows: each predicted row is compared with its item's most similar target row.

    All [B, R, D] float, e.g. R patches of an image, item i the same in all; no gradient reaches the targets. Returns
    the mean over rows and items, a scalar in [-1, 1]. Raises ValueError if the shapes differ.
    """
    predicted, targets = _crossed(3, predicted_first, predicted_second, target_first, target_second)
    return -(predicted @ targets.mT).amax(dim=-1).mean()


def _crossed(dim: int, predicted_first: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    """Unit rows of both predictions, and of the targets that each is compared with: the other view's, detached."""
    predicted_second, target_first, target_second = others
    _check_shapes(
        dim,
        predicted_first=predicted_first,
        predicted_second=predicted_second,
        target_first=target_first,
        target_second=target_second,
    )
    predicted = torch.cat([_unit(predicted_first), _unit(predicted_second)])
    return predicted, torch.cat([_unit(target_second), _unit(target_first)]).detach()


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(full_precision(rows), dim=-1)


def _check_shapes(dim: int, **tensors: Tensor) -> None:
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if len({tuple(shape) for shape in shapes.values()}) > 1 or any(len(shape) != dim for shape in shapes.values()):
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"The views must have one shape, of {dim} dimensions, got {found}.")
