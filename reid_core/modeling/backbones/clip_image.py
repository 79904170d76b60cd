"""The CLIP image encoder as a ReID backbone: rectangular input, side information, three features."""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.modeling.clip import (
    AdaptedModifiedResNet,
    AdaptedVisionTransformer,
    AttentionMaps,
    ImageTokens,
    attention_maps,
    build_image_tower,
    load_clip_weights,
    resize_positions,
)
from reid_core.registry import BACKBONE_REGISTRY
from reid_core.structures import ImageFeatures
from reid_core.utils.logging import get_logger


@BACKBONE_REGISTRY.register()
class CLIPImageBackbone(nn.Module):
    """CLIP's image tower (ViT or ModifiedResNet) for images of one size, with three features (CLIP-style ReID).

    architecture: an open_clip name or a JSON file of its format. pretrained: an open_clip tag, a weights file, or ""
    for random weights. input_size: (height, width) in pixels. patch_stride: step of the ViT's patches in pixels, 0 for
    the patch size. num_cameras, num_views: rows of the side information embedding (SIE), 0 to leave that factor out;
    with both, there is one row per pair, camera * num_views + view. sie_coefficient: factor of that row, which is
    added to the class token before its position. freeze: leading parts of parameter names of the tower that are not
    trained (`["conv1"]`: the patch projection); running statistics of a ResNet's norms move all the same.

    `visual` is the tower, its parameters under OpenAI's names; `cv_embed` [n, width] the SIE table or None; `widths`
    the widths of the features. The buffer `position_grid` saves the grid of the position table with the weights.
    Raises ValueError for SIE, a patch stride or gradient checkpointing on a ResNet, and for unknown names to freeze.
    """

    def __init__(
        self,
        architecture: str,
        input_size: Sequence[int],
        pretrained: str = "",
        patch_stride: int = 0,
        num_cameras: int = 0,
        num_views: int = 0,
        sie_coefficient: float = 1.0,
        freeze: Sequence[str] = (),
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        tower = build_image_tower(architecture)
        if hasattr(tower, "attnpool"):
            _refuse_vit_options(architecture, num_cameras or num_views, patch_stride, gradient_checkpointing)
            self.visual = AdaptedModifiedResNet(tower, input_size)
        else:
            self.visual = AdaptedVisionTransformer(tower, input_size, patch_stride, gradient_checkpointing)
        self.widths = self.visual.widths
        self.num_cameras, self.num_views, self.sie_coefficient = num_cameras, num_views, sie_coefficient
        self.cv_embed = None
        if num_cameras or num_views:
            rows = max(num_cameras, 1) * max(num_views, 1)
            self.cv_embed = nn.Parameter(torch.zeros(rows, self.widths.last))
            nn.init.trunc_normal_(self.cv_embed, std=0.02)
        self.register_buffer("position_grid", torch.tensor(self.visual.grid))
        if pretrained:
            self._load_pretrained(pretrained, architecture)
        _freeze(self.visual, freeze)

    @classmethod
    def from_config(cls, cfg: Any, num_cameras: int, num_views: int) -> dict[str, Any]:
        """num_cameras, num_views: of the training set; used where the config switches side information on."""
        if list(cfg.INPUT.SIZE_TRAIN) != list(cfg.INPUT.SIZE_TEST):
            raise ValueError(
                f"INPUT.SIZE_TRAIN {cfg.INPUT.SIZE_TRAIN} and INPUT.SIZE_TEST {cfg.INPUT.SIZE_TEST} differ: the "
                "position table of a CLIP backbone fits one size only."
            )
        options = cfg.MODEL.BACKBONE
        for key, wanted, count in [
            ("SIE_CAMERA", options.SIE_CAMERA, num_cameras),
            ("SIE_VIEW", options.SIE_VIEW, num_views),
        ]:
            if wanted and count < 1:
                raise ValueError(f"MODEL.BACKBONE.{key} is on, but the training set names {count}; switch it off.")
        return {
            "architecture": options.ARCHITECTURE,
            "input_size": cfg.INPUT.SIZE_TRAIN,
            "pretrained": options.PRETRAINED,
            "patch_stride": options.PATCH_STRIDE,
            "num_cameras": num_cameras if options.SIE_CAMERA else 0,
            "num_views": num_views if options.SIE_VIEW else 0,
            "sie_coefficient": options.SIE_COEFFICIENT,
            "freeze": options.FREEZE,
            "gradient_checkpointing": options.GRADIENT_CHECKPOINTING,
        }

    def forward(self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None) -> ImageFeatures:
        """images: float [B, 3, H, W], normalised. camids, viewids: int64 [B], used by the side information embedding;
        without them it is left out, and for single images of unknown camera or viewpoint where the number is -1.

        Raises ValueError for another image size, for numbers outside of the table (checked on the CPU only: on another
        device that would wait for it), and if only one of the two numbers that the table needs is given.
        """
        return self.visual(images, *self._class_offset(camids, viewids))

    def forward_tokens(
        self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None
    ) -> ImageTokens:
        """As `forward`, with the features at every position."""
        return self.visual.forward_tokens(images, *self._class_offset(camids, viewids))

    def forward_attention(
        self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None
    ) -> AttentionMaps:
        """Where the feature's token looks, as maps [B, h, w] (see `attention_maps`); in evaluation mode only."""
        return attention_maps(self.visual, images, *self._class_offset(camids, viewids))

    def adapt_state_dict(self, state: Mapping[str, Tensor], prefix: str = "") -> tuple[dict[str, Tensor], list[str]]:
        """A copy of `state` that loads strictly into this backbone, and notes on what was changed.

        state: a state dict in which this backbone's entries begin with `prefix`; others are passed on. A position
        table of another grid is resized; its grid is the saved `position_grid`, or without one a square, or this
        backbone's own if the rows fit. A side information table of other cameras or views is replaced by this
        backbone's own, as its rows mean nothing here. Raises ValueError for a table whose grid cannot be told.
        """
        adapted, notes = dict(state), []
        self._adapt_positions(adapted, notes, prefix)
        self._adapt_side_information(adapted, notes, f"{prefix}cv_embed")
        return adapted, notes

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *arguments: Any) -> None:
        """Refuse a table of another grid, which has the right shape if only rows and columns are swapped."""
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        grid = state_dict.get(f"{prefix}position_grid")
        if grid is not None and tuple(grid.tolist()) != self.visual.grid:
            *_, error_messages = arguments
            error_messages.append(
                f"{prefix}position_grid is {grid.tolist()}, this backbone has {list(self.visual.grid)}; resize the "
                "positions with adapt_state_dict first."
            )

    def _adapt_positions(self, state: dict[str, Tensor], notes: list[str], prefix: str) -> None:
        name, grid_name = f"{prefix}visual.{self.visual.position_table_name}", f"{prefix}position_grid"
        if name not in state:
            return
        new_grid = self.visual.grid
        old_grid = tuple(state[grid_name].tolist()) if grid_name in state else _guess_grid(state[name], name, new_grid)
        if old_grid != new_grid:
            state[name] = resize_positions(state[name], old_grid, new_grid)
            notes.append(f"{name}: resized from {old_grid[0]}x{old_grid[1]} to {new_grid[0]}x{new_grid[1]} positions")
        state[grid_name] = self.position_grid.clone()

    def _adapt_side_information(self, state: dict[str, Tensor], notes: list[str], name: str) -> None:
        if self.cv_embed is None:
            if state.pop(name, None) is not None:
                notes.append(f"{name}: dropped, side information is switched off here")
        elif name not in state or state[name].shape != self.cv_embed.shape:
            found = f"has shape {list(state[name].shape)}" if name in state else "is missing"
            notes.append(f"{name}: {found}, {list(self.cv_embed.shape)} needed; kept as this model was built")
            state[name] = self.cv_embed.detach().clone()

    def _load_pretrained(self, source: str, architecture: str) -> None:
        weights = load_clip_weights(source, architecture)
        state = {name: value for name, value in weights.items() if name.startswith("visual.")}
        state, notes = self.adapt_state_dict(state)
        self.load_state_dict(state)
        get_logger().info("Loaded %s into %s. %s", source, architecture, " ".join(f"{note}." for note in notes))

    def _class_offset(self, camids: Tensor | None, viewids: Tensor | None) -> tuple[Tensor, ...]:
        """What is added to the class token, [B, width]; nothing without side information."""
        parts = [("camids", camids, self.num_cameras), ("viewids", viewids, self.num_views)]
        parts = [part for part in parts if part[2]]
        given = [name for name, numbers, _ in parts if numbers is not None]
        if not given:
            return ()
        if len(given) < len(parts):
            raise ValueError(f"Side information needs camids and viewids, or neither; got {given[0]} alone.")
        rows, known = torch.zeros_like(parts[0][1]), torch.ones_like(parts[0][1], dtype=torch.bool)
        for name, numbers, count in parts:
            _check_numbers(name, numbers, count)
            rows, known = rows * count + numbers.clamp(min=0), known & (numbers >= 0)
        rows, known = rows.to(self.cv_embed.device), known.to(self.cv_embed.device)
        return (self.sie_coefficient * self.cv_embed[rows] * known[:, None],)


def _check_numbers(name: str, numbers: Tensor, count: int) -> None:
    if numbers.device.type != "cpu" or not numbers.numel():
        return
    wrong = numbers[(numbers < -1) | (numbers >= count)]
    if wrong.numel():
        raise ValueError(
            f"{name} holds {int(wrong[0])}, but the side information table was built for 0 to {count - 1}; pass -1, "
            f"or no {name}, for images from elsewhere."
        )


def _guess_grid(table: Tensor, name: str, own_grid: tuple[int, int]) -> tuple[int, int]:
    cells = table.shape[0] - 1
    side = math.isqrt(max(cells, 0))
    if side * side == cells:
        return side, side
    if cells == own_grid[0] * own_grid[1]:
        return own_grid
    raise ValueError(
        f"{name} has {cells} positions, which are no square, and the state dict does not say their grid; add an "
        "int64 entry 'position_grid' = [rows, columns] beside it."
    )


def _refuse_vit_options(architecture: str, sie: int, patch_stride: int, gradient_checkpointing: bool) -> None:
    options = {
        "side information (SIE_CAMERA, SIE_VIEW)": sie,
        "a patch stride (PATCH_STRIDE)": patch_stride,
        "gradient checkpointing (GRADIENT_CHECKPOINTING)": gradient_checkpointing,
    }
    for option, wanted in options.items():
        if wanted:
            raise ValueError(f"'{architecture}' is a ModifiedResNet: {option} exists for the ViT only; switch it off.")


def _freeze(tower: nn.Module, names: Sequence[str]) -> None:
    """Stop training the parameters whose dotted names begin with one of the names."""
    parameters = dict(tower.named_parameters())
    for leading in names:
        chosen = [name for name in parameters if name == leading or name.startswith(f"{leading}.")]
        if not chosen:
            known = sorted({name.rsplit(".", cut)[0] for name in parameters for cut in range(name.count(".") + 1)})
            near = difflib.get_close_matches(leading, known, n=3, cutoff=0.4) or known[:10]
            raise ValueError(f"Nothing to freeze under '{leading}': no parameter begins so. Near: {', '.join(near)}.")
        for name in chosen:
            parameters[name].requires_grad_(False)
