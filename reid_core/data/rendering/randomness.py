"""Random streams: each thing that is drawn has a generator of its own, derived from what it is.

So an image does not depend on which process draws it, nor on how many images were drawn before.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


class Stream(IntEnum):
    """First key of each random stream; the values are part of what makes old seeds reproducible."""

    NUMBERS = 0
    SCHEDULE = 1
    LOOK = 2
    CAMERA = 3
    IMAGE = 4
    SCENE = 5
    VIEW = 6


def generator(seed: int, stream: Stream, *keys: int) -> np.random.Generator:
    """The generator of one thing, named by its stream and its keys (none of them negative)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(stream), *keys])))


def pick(rng: np.random.Generator, choices: Sequence[Choice], weights: Sequence[float] | None = None) -> Choice:
    """One of the choices; weights need not sum to one. Consumes exactly one uniform number."""
    position = rng.random()
    if weights is None:
        return choices[min(int(position * len(choices)), len(choices) - 1)]
    bounds = np.cumsum(weights)
    return choices[min(int(np.searchsorted(bounds, position * bounds[-1], side="right")), len(choices) - 1)]
