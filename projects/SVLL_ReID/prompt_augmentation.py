"""Augmented versions of embedded prompts, for self-supervision of the prompts (arXiv 2407.20647).

Each augmentation draws first and applies then, so that what was drawn elsewhere can be applied too. Draws come from
the generator passed in, on the device where it lives; for what is cut off at `length` tokens nothing is drawn that the
rest does not depend on. A generator on the CPU draws the same on every machine; one on the prompts' device is faster.
Either is resumed by its get_state and set_state.
"""

import torch
from torch import Tensor

from reid_core.registry import Registry

PROMPT_AUGMENTATION_REGISTRY = Registry("prompt augmentation")
"""Functions (prompts [U, L, W], scale, generator, length) -> augmented prompts [U, length, W] (None: L); the gradient
reaches the prompts. All raise ValueError if the scale is outside [0, 1]."""


@PROMPT_AUGMENTATION_REGISTRY.register()
def mask(prompts: Tensor, scale: float, generator: torch.Generator, length: int | None = None) -> Tensor:
    """Sets every scalar to 0 with probability `scale`. [U, L, W] float -> [U, length, W]."""
    prompts = prompts[:, :length]  # what happens to one scalar tells nothing about another
    return apply_mask(prompts, draw_mask(prompts.shape, scale, generator))


@PROMPT_AUGMENTATION_REGISTRY.register()
def swap(prompts: Tensor, scale: float, generator: torch.Generator, length: int | None = None) -> Tensor:
    """Permutes int(scale * L) random tokens of each prompt among themselves. [U, L, W] float -> [U, length, W]."""
    return apply_swap(prompts, *draw_swap(prompts.shape, scale, generator), length)


@PROMPT_AUGMENTATION_REGISTRY.register()
def mix(prompts: Tensor, scale: float, generator: torch.Generator, length: int | None = None) -> Tensor:
    """(1 - scale) * prompt + scale * another prompt, drawn among the others. [U, L, W] float -> [U, length, W].

    Raises ValueError for a single prompt.
    """
    return apply_mix(prompts[:, :length], draw_partners(len(prompts), generator), scale)


def draw_mask(shape: torch.Size, scale: float, generator: torch.Generator) -> Tensor:
    """bool [U, L, W], true with probability `scale`. shape: of the whole prompts."""
    check_scale(scale)
    return torch.rand(shape, generator=generator, device=generator.device) < scale


def apply_mask(prompts: Tensor, masked: Tensor) -> Tensor:
    """The prompts with 0 where `masked` is true. [U, n, W] float; masked: bool [U, L, W], of which n tokens count."""
    return prompts.masked_fill(masked[:, : prompts.shape[1]].to(prompts.device), 0)


def draw_swap(shape: torch.Size, scale: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each prompt k = int(scale * L) distinct positions, and the same in another order: int64 [U, k] each."""
    check_scale(scale)
    number, tokens, device = shape[0], shape[1], generator.device
    positions = torch.rand((number, tokens), generator=generator, device=device).argsort(dim=1, stable=True)
    positions = positions[:, : int(scale * tokens)]
    order = torch.rand(positions.shape, generator=generator, device=device).argsort(dim=1, stable=True)
    return positions, positions.gather(1, order)


def apply_swap(prompts: Tensor, positions: Tensor, sources: Tensor, length: int | None = None) -> Tensor:
    """Token positions[u, j] of prompt u becomes its former token sources[u, j]. [U, L, W] float -> [U, length, W].

    positions, sources: int64 [U, k], the positions of a prompt distinct.
    """
    tokens = torch.arange(prompts.shape[1], device=prompts.device).repeat(len(prompts), 1)
    tokens = tokens.scatter(1, positions.to(prompts.device), sources.to(prompts.device))[:, :length]
    return prompts.gather(1, tokens[:, :, None].expand(-1, -1, prompts.shape[2]))


def draw_partners(number: int, generator: torch.Generator) -> Tensor:
    """For each of `number` prompts another one, all equally likely: int64 [U]. Raises ValueError for a single one."""
    if number < 2:
        raise ValueError(
            f"'mix' needs at least 2 prompts (identities) in a batch to mix, got {number}. Leave the contrastive loss "
            "of this batch out (of a single prompt it is 0 anyway), make the batches larger, or choose another "
            "SVLL.PROMPT_AUGMENTATION."
        )
    others = torch.randint(number - 1, (number,), generator=generator, device=generator.device)
    return others + (others >= torch.arange(number, device=generator.device))  # step over the prompt itself


def apply_mix(prompts: Tensor, partners: Tensor, scale: float) -> Tensor:
    """(1 - scale) * prompts + scale * prompts[partners]. prompts: [U, n, W] float. partners: int64 [U]."""
    check_scale(scale)
    return (1 - scale) * prompts + scale * prompts[partners.to(prompts.device)]


def check_scale(scale: float) -> None:
    """Raise ValueError unless the strength of an augmentation is in [0, 1]."""
    if not 0 <= scale <= 1:
        raise ValueError(f"SVLL.PROMPT_AUGMENTATION_SCALE must be in [0, 1], got {scale}.")
