"""Image transforms: uint8 [3, H, W] in, uint8 (or, once normalised, float32) out.

Random decisions are drawn from torch's global generator, which the loader seeds for every sample; a transform keeps
no state of its own.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import reid_core.utils.torchvision_import  # noqa: F401 - must come before torchvision

# isort: split
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from reid_core.registry import TRANSFORM_REGISTRY

Transform = Callable[[Tensor], Tensor]


class Compose:
    """Applies transforms one after the other."""

    def __init__(self, transforms: Sequence[Transform]):
        self.transforms = list(transforms)

    def __call__(self, image: Tensor) -> Tensor:
        for transform in self.transforms:
            image = transform(image)
        return image


class MultiView:
    """A plain view of the image and further ones: [3, H, W] -> [1 + V, 3, H, W], the plain view first.

    The plain view draws its random numbers first, so it is the same as without the others. `shared` comes before all
    of them, once; it must not be random.
    """

    def __init__(self, plain: Transform, extra: Transform, num_extra: int, shared: Transform | None = None):
        """num_extra: V, how often `extra` is applied; at least 1."""
        if num_extra < 1:
            raise ValueError(f"INPUT.EXTRA_VIEWS must be positive, or 0 for the plain view alone, got {num_extra}.")
        self.transforms, self.shared = [plain, *[extra] * num_extra], shared or Compose([])

    def __call__(self, image: Tensor) -> Tensor:
        """Raises ValueError if the views differ in size or type."""
        image = self.shared(image)
        views = [transform(image) for transform in self.transforms]
        for view in views[1:]:
            if view.shape != views[0].shape or view.dtype != views[0].dtype:
                raise ValueError(
                    f"The views of an image must have one size and type: the plain one is {views[0].dtype} "
                    f"{list(views[0].shape)}, a further one {view.dtype} {list(view.shape)}. INPUT.TRAIN_TRANSFORMS "
                    "and INPUT.EXTRA_VIEW_TRANSFORMS must both resize and both normalise (erasing with noise), or not."
                )
        return torch.stack(views)


def build_transforms(cfg: Any, train: bool) -> Transform:
    """The transforms that INPUT.TRAIN_TRANSFORMS or INPUT.TEST_TRANSFORMS name, in order.

    In training with INPUT.EXTRA_VIEWS they give the plain view, and a MultiView adds the others.
    Raises LookupError for a name that is not registered, ValueError for values that a transform refuses and for views
    of different size or type.
    """
    names = cfg.INPUT.TRAIN_TRANSFORMS if train else cfg.INPUT.TEST_TRANSFORMS
    if not train or cfg.INPUT.EXTRA_VIEWS == 0:
        return _compose(names, cfg, train)
    extra_cfg = cfg.clone()  # transforms read keys of one name
    extra_cfg.defrost()
    extra_cfg.INPUT.ERASING_AREA = cfg.INPUT.EXTRA_VIEW_ERASING_AREA or cfg.INPUT.ERASING_AREA
    extra_names = cfg.INPUT.EXTRA_VIEW_TRANSFORMS or names
    num_shared = int(names[:1] == extra_names[:1] == ["Resize"])  # the costliest of them, without a random decision
    views = MultiView(
        _compose(names[num_shared:], cfg, train),
        _compose(extra_names[num_shared:], extra_cfg, train),
        cfg.INPUT.EXTRA_VIEWS,
        shared=_compose(names[:num_shared], cfg, train),
    )
    with torch.random.fork_rng(devices=[]):  # views that do not fit together are an error now, not in a later stage
        views(torch.zeros(3, *cfg.INPUT.SIZE_TRAIN, dtype=torch.uint8))
    return views


def split_resize(transform: Transform) -> tuple["Resize | None", Transform]:
    """The Resize that a transform begins with, and the rest of it; (None, transform) if it begins with another.

    A Resize decides nothing at random, so its result can be kept, and an image decoded with its size in view.
    """
    if isinstance(transform, MultiView):
        resize, shared = split_resize(transform.shared)
        plain, *extra = transform.transforms
        return (None, transform) if resize is None else (resize, MultiView(plain, extra[0], len(extra), shared))
    if isinstance(transform, Compose) and transform.transforms and type(transform.transforms[0]) is Resize:
        return transform.transforms[0], Compose(transform.transforms[1:])
    return None, transform


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    """The part of `length` places that a window moved by `shift` shows: where in the window, where in the image."""
    shown = max(length - abs(shift), 0)
    first_to, first_from = max(-shift, 0), max(shift, 0)
    return slice(first_to, first_to + shown), slice(first_from, first_from + shown)


def _compose(names: Sequence[str], cfg: Any, train: bool) -> Compose:
    return Compose([TRANSFORM_REGISTRY.build(name, cfg, train=train) for name in names])


def normalize(image: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 [3, H, W] -> float32, (image / 255 - mean) / std. mean, std: [3, 1, 1], of values in [0, 1]."""
    return image.float().div_(255).sub_(mean).div_(std)


@TRANSFORM_REGISTRY.register()
class Resize:
    """Resizes to a fixed height and width, not keeping the aspect; antialiased, as Pillow does it."""

    def __init__(self, size: Sequence[int], interpolation: str = "bilinear"):
        """size: height, width in pixels. interpolation: "bilinear" or "bicubic"."""
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"The input size must be [height, width] in pixels, got {list(size)}.")
        if interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"Interpolation must be 'bilinear' or 'bicubic', got '{interpolation}'.")
        self.size, self.interpolation = list(size), InterpolationMode(interpolation)

    def __call__(self, image: Tensor) -> Tensor:
        resized = F.resize(image, self.size, interpolation=self.interpolation, antialias=True)
        return resized.contiguous()  # decoded images are rows of RGB pixels; all that follows is faster by channel

    @classmethod
    def from_config(cls, cfg: Any, train: bool) -> dict:
        if train:
            return {"size": cfg.INPUT.SIZE_TRAIN, "interpolation": cfg.INPUT.INTERPOLATION_TRAIN}
        return {"size": cfg.INPUT.SIZE_TEST, "interpolation": cfg.INPUT.INTERPOLATION_TEST}


@TRANSFORM_REGISTRY.register()
class RandomHorizontalFlip:
    """Mirrors left and right with a probability."""

    def __init__(self, probability: float = 0.5):
        self.probability = checked_probability(probability, "INPUT.FLIP_PROBABILITY")

    def __call__(self, image: Tensor) -> Tensor:
        return image.flip(-1) if torch.rand(()).item() < self.probability else image

    @classmethod
    def from_config(cls, cfg: Any, train: bool) -> dict:
        return {"probability": cfg.INPUT.FLIP_PROBABILITY}


@TRANSFORM_REGISTRY.register()
class PadAndCrop:
    """Adds a black border and cuts out a random part of the image's former size."""

    def __init__(self, padding: int = 10):
        """padding: pixels on each side."""
        if padding < 0:
            raise ValueError(f"INPUT.PADDING must not be negative, got {padding}.")
        self.padding = padding

    def __call__(self, image: Tensor) -> Tensor:
        if image.dtype != torch.uint8:
            raise ValueError(
                "PadAndCrop pads with black, which is 0 only before normalisation; in INPUT.TRAIN_TRANSFORMS it must "
                "stand before the transform that normalises (RandomErasing with noise)."
            )
        height, width = image.shape[-2:]
        top, left = (int(torch.randint(0, 2 * self.padding + 1, ())) for _ in range(2))
        rows_to, rows_from = _overlap(top - self.padding, height)
        columns_to, columns_from = _overlap(left - self.padding, width)
        cut = torch.zeros_like(image)  # only what is seen is copied: half the time of padding the whole image
        cut[..., rows_to, columns_to] = image[..., rows_from, columns_from]
        return cut

    @classmethod
    def from_config(cls, cfg: Any, train: bool) -> dict:
        return {"padding": cfg.INPUT.PADDING}


@TRANSFORM_REGISTRY.register()
class RandomErasing:
    """Covers a random box of the image (Zhong et al. 2020).

    With `probability`, up to ten times: the box's share of the image is drawn uniformly from `area`, its height /
    width log-uniformly from `aspect`, and if the box is smaller than the image in both directions it is placed
    uniformly; otherwise the image stays as it is.

    fill "mean": with the pixel mean: uint8 stays uint8, of an image that is already normalised the mean is 0.
    fill "noise": with standard normal noise for each value, which has this meaning only after normalisation; so every
    image, erased or not, leaves as normalised float32.
    """

    _TRIES = 10

    def __init__(
        self,
        probability: float,
        area: Sequence[float],
        aspect: Sequence[float],
        fill: str,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        """area, aspect: smallest and largest. mean, std: per channel, of values in [0, 1]."""
        if len(area) != 2 or not 0 < area[0] <= area[1] <= 1:
            raise ValueError(
                "INPUT.ERASING_AREA (and EXTRA_VIEW_ERASING_AREA) must be [smallest, largest] in (0, 1], got "
                f"{list(area)}."
            )
        if not 0 < aspect[0] <= aspect[1]:
            raise ValueError(f"INPUT.ERASING_ASPECT must be [smallest, largest], positive, got {list(aspect)}.")
        if fill not in ("mean", "noise"):
            raise ValueError(f"INPUT.ERASING_FILL must be 'mean' or 'noise', got '{fill}'.")
        self.probability = checked_probability(probability, "INPUT.ERASING_PROBABILITY")
        self.area, self.log_aspect, self.fill = tuple(area), tuple(map(math.log, aspect)), fill
        self.mean, self.std = (torch.tensor(list(values)).view(-1, 1, 1) for values in (mean, std))
        self._mean_pixel = (self.mean * 255).round().to(torch.uint8)

    def __call__(self, image: Tensor) -> Tensor:
        if self.fill == "noise" and image.dtype == torch.uint8:
            image = normalize(image, self.mean, self.std)
        box = self._draw_box(*image.shape[-2:]) if torch.rand(()).item() < self.probability else None
        if box is None:
            return image
        image = image.clone()  # the caller's image stays as it was
        patch = image[(..., *box)]
        if self.fill == "noise":
            patch.copy_(torch.randn(patch.shape))  # several times faster than normal_() on a part of an image
        else:
            patch.copy_((self._mean_pixel if image.dtype == torch.uint8 else torch.zeros(())).expand_as(patch))
        return image

    def _draw_box(self, height: int, width: int) -> tuple[slice, slice] | None:
        for _ in range(self._TRIES):
            share, log_aspect = torch.rand(2).tolist()
            area = height * width * (self.area[0] + share * (self.area[1] - self.area[0]))
            aspect = math.exp(self.log_aspect[0] + log_aspect * (self.log_aspect[1] - self.log_aspect[0]))
            box_height, box_width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if box_height < height and box_width < width:
                top = int(torch.randint(0, height - box_height + 1, ()))
                left = int(torch.randint(0, width - box_width + 1, ()))
                return slice(top, top + box_height), slice(left, left + box_width)
        return None

    @classmethod
    def from_config(cls, cfg: Any, train: bool) -> dict:
        return {
            "probability": cfg.INPUT.ERASING_PROBABILITY,
            "area": cfg.INPUT.ERASING_AREA,
            "aspect": cfg.INPUT.ERASING_ASPECT,
            "fill": cfg.INPUT.ERASING_FILL,
            "mean": cfg.MODEL.PIXEL_MEAN,
            "std": cfg.MODEL.PIXEL_STD,
        }


def checked_probability(value: float, key: str) -> float:
    """The value; ValueError naming the config's key if it is no probability."""
    if not 0 <= value <= 1:
        raise ValueError(f"{key} must be in [0, 1], got {value}.")
    return value
