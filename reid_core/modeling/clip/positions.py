"""Position tables: one learned row for the class token (or the mean), then one for each cell of a grid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int]


def resize_positions(table: Tensor, old_grid: Grid, new_grid: Grid) -> Tensor:
    """The table at another grid: bilinear between cell centres (no antialiasing), the first row kept.

    table: [1 + h*w, D] at `old_grid` = (h, w), cells row by row. Returns [1 + new_h*new_w, D] of the same dtype; the
    table itself where the grids are equal. Raises ValueError if the table does not have 1 + h*w rows.
    """
    old_grid, new_grid = tuple(old_grid), tuple(new_grid)
    rows = 1 + old_grid[0] * old_grid[1]
    if table.ndim != 2 or table.shape[0] != rows:
        raise ValueError(
            f"A position table of grid {old_grid[0]}x{old_grid[1]} has shape [{rows}, D], got {list(table.shape)}."
        )
    if old_grid == new_grid:
        return table
    image = table[1:].T.reshape(1, -1, *old_grid)
    resized = F.interpolate(image.float(), size=new_grid, mode="bilinear", align_corners=False)
    return torch.cat([table[:1], resized[0].flatten(1).T.to(table.dtype)])


def resize_parameter(table: nn.Parameter, old_grid: Grid, new_grid: Grid) -> nn.Parameter:
    """`resize_positions` for a parameter: a new parameter that is trained if the old one is."""
    resized = resize_positions(table.detach(), old_grid, new_grid)
    return nn.Parameter(resized, requires_grad=table.requires_grad)


def check_input_size(images: Tensor, input_size: Grid) -> None:
    """Raise ValueError unless images are [B, 3, H, W] of the size (H, W) that the position table was made for."""
    if images.ndim != 4 or images.shape[1] != 3 or tuple(images.shape[2:]) != tuple(input_size):
        raise ValueError(
            f"Images must be [B, 3, {input_size[0]}, {input_size[1]}], got {list(images.shape)}: the position table "
            "fits one input size only. Resize the images, or build the backbone with this input size."
        )
