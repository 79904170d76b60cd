"""Stronger augmentations of colours and shapes, uint8 [3, H, W] in and out: torchvision's, with a probability.

Torchvision's second generation of transforms draws from torch's global generator alone, as those of `transforms` do.
What a shear, shift or rotation uncovers is black.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import reid_core.utils.torchvision_import  # noqa: F401 - must come before torchvision

# isort: split
from torchvision.transforms import v2

from reid_core.data.transforms import checked_probability
from reid_core.registry import TRANSFORM_REGISTRY


class RandomAugmentation:
    """Applies a transform with a probability; must stand before normalisation."""

    def __init__(self, transform: Callable[[Tensor], Tensor], probability: float, key: str):
        """transform: uint8 [3, H, W] -> uint8 [3, H, W]. key: the config key of the probability, for the error."""
        self.transform, self.probability = transform, checked_probability(probability, key)

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 [3, H, W] -> uint8 [3, H, W]. Raises ValueError for an image that is already normalised (float)."""
        if image.dtype != torch.uint8:
            raise ValueError(
                f"{type(self).__name__} changes pixels of 0 to 255, got {image.dtype}; in INPUT.TRAIN_TRANSFORMS (and "
                "EXTRA_VIEW_TRANSFORMS) it must stand before the transform that normalises (RandomErasing with noise)."
            )
        return self.transform(image) if torch.rand(()).item() < self.probability else image


@TRANSFORM_REGISTRY.register()
class ColorJitter(RandomAugmentation):
    """Multiplies brightness, contrast and saturation by random factors and shifts the hue, in random order.

    Each factor is drawn uniformly from [max(0, 1 - x), 1 + x], the shift from [-hue, hue], in turns of the circle.
    """

    def __init__(self, probability: float, brightness: float, contrast: float, saturation: float, hue: float):
        """brightness, contrast, saturation: x, at least 0. hue: in [0, 0.5]. 0 leaves a property as it is."""
        for name, value in (("BRIGHTNESS", brightness), ("CONTRAST", contrast), ("SATURATION", saturation)):
            if value < 0:
                raise ValueError(f"INPUT.COLOR_JITTER_{name} must not be negative, got {value}.")
        if not 0 <= hue <= 0.5:
            raise ValueError(f"INPUT.COLOR_JITTER_HUE must be in [0, 0.5], got {hue}.")
        transform = v2.ColorJitter(brightness, contrast, saturation, hue)
        super().__init__(transform, probability, "INPUT.COLOR_JITTER_PROBABILITY")

    @classmethod
    def from_config(cls, cfg: Any, train: bool) -> dict:
        return {
            "probability": cfg.INPUT.COLOR_JITTER_PROBABILITY,
            "brightness": cfg.INPUT.COLOR_JITTER_BRIGHTNESS,
            "contrast": cfg.INPUT.COLOR_JITTER_CONTRAST,
            "saturation": cfg.INPUT.COLOR_JITTER_SATURATION,
            "hue": cfg.INPUT.COLOR_JITTER_HUE,
        }


@TRANSFORM_REGISTRY.register()
class AugMix(RandomAugmentation):
    """Mixes the image with several chains of random operations on it (Hendrycks et al. 2020).

    A chain applies 1 to 3 operations (or `depth`) of 13, one after the other. The chains' weights are drawn from a
    Dirichlet distribution, the share of the image itself from a Beta distribution, both with parameter `alpha`.
    """

    def __init__(self, probability: float, severity: int, width: int, depth: int, alpha: float):
        """severity: 1 to 10. width: number of chains. depth: operations in a chain; 0: drawn from 1, 2, 3."""
        if not 1 <= severity <= 10:
            raise ValueError(f"INPUT.AUGMIX_SEVERITY must be from 1 to 10, got {severity}.")
        if width < 1:
            raise ValueError(f"INPUT.AUGMIX_WIDTH must be positive, got {width}.")
        if depth < 0:
            raise ValueError(f"INPUT.AUGMIX_DEPTH must be positive, or 0 for 1 to 3, got {depth}.")
        if alpha <= 0:
            raise ValueError(f"INPUT.AUGMIX_ALPHA must be positive, got {alpha}.")
        transform = v2.AugMix(severity, mixture_width=width, chain_depth=depth, alpha=alpha)
        super().__init__(transform, probability, "INPUT.AUGMIX_PROBABILITY")

    @classmethod
    def from_config(cls, cfg: Any, train: bool) -> dict:
        return {
            "probability": cfg.INPUT.AUGMIX_PROBABILITY,
            "severity": cfg.INPUT.AUGMIX_SEVERITY,
            "width": cfg.INPUT.AUGMIX_WIDTH,
            "depth": cfg.INPUT.AUGMIX_DEPTH,
            "alpha": cfg.INPUT.AUGMIX_ALPHA,
        }


@TRANSFORM_REGISTRY.register()
class RandAugment(RandomAugmentation):
    """Applies operations drawn from 14, one of which changes nothing, all at one strength (Cubuk et al. 2020)."""

    def __init__(self, probability: float, num_operations: int, magnitude: int):
        """num_operations: applied one after the other. magnitude: strength, from 0 (weakest) to 30."""
        if num_operations < 1:
            raise ValueError(f"INPUT.RAND_AUGMENT_NUM_OPERATIONS must be positive, got {num_operations}.")
        if not 0 <= magnitude <= 30:
            raise ValueError(f"INPUT.RAND_AUGMENT_MAGNITUDE must be from 0 to 30, got {magnitude}.")
        transform = v2.RandAugment(num_operations, magnitude, num_magnitude_bins=31)
        super().__init__(transform, probability, "INPUT.RAND_AUGMENT_PROBABILITY")

    @classmethod
    def from_config(cls, cfg: Any, train: bool) -> dict:
        return {
            "probability": cfg.INPUT.RAND_AUGMENT_PROBABILITY,
            "num_operations": cfg.INPUT.RAND_AUGMENT_NUM_OPERATIONS,
            "magnitude": cfg.INPUT.RAND_AUGMENT_MAGNITUDE,
        }
