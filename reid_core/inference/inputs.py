"""What a user hands over to be encoded, taken apart into single images: files, folders, Pillow images, arrays."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reid_core.data.images import pixels_of, read_image

SingleImage: TypeAlias = Path | Image.Image | np.ndarray | Tensor
Images: TypeAlias = str | os.PathLike | Image.Image | np.ndarray | Tensor | Iterable

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings, in lower case, of the files that are taken from a folder."""

_BATCHES_AHEAD = 2
_EXPECTED = "a path, a Pillow image, a NumPy array [H, W, 3] or a tensor [3, H, W], both uint8, or several of them"


def single_images(images: Images) -> Iterator[SingleImage]:
    """The images one by one, in order; folders as `list_images`. See `ReIDModel.encode` for what is taken.

    Raises TypeError for anything else, ValueError for arrays of another shape or type and for folders without images,
    FileNotFoundError for a path where there is nothing.
    """
    if isinstance(images, str | os.PathLike):
        yield from _files(Path(images).expanduser())
    elif isinstance(images, Image.Image):
        yield images
    elif isinstance(images, np.ndarray | Tensor):
        yield from _rows(images)
    elif isinstance(images, Iterable) and not isinstance(images, Mapping | bytes | bytearray):
        for entry in images:
            yield from single_images(entry)
    else:
        raise TypeError(f"An image to encode must be {_EXPECTED}; got {_described(images)}.")


def list_images(folder: Path) -> list[Path]:
    """All image files below a folder, by their names' endings, sorted by path. Hidden files are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


def decode(image: SingleImage, at_least: tuple[int, int] | None = None) -> Tensor:
    """uint8 [3, H, W], RGB. at_least: as in `read_image`, which reads files."""
    if isinstance(image, Path):
        return read_image(str(image), at_least)
    if isinstance(image, Image.Image):
        return pixels_of(image)
    if isinstance(image, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    return image.cpu()


def prepared_batches(
    images: Iterable[SingleImage], prepare: Callable[[SingleImage], Tensor], batch_size: int, num_workers: int
) -> Iterator[list[Tensor]]:
    """`prepare(image)` of every image, in order, in lists of `batch_size` (the last may be shorter).

    num_workers: threads that prepare, up to two batches ahead; 0: none, each list when it is asked for.
    """
    remaining = iter(images)
    groups = iter(lambda: list(islice(remaining, batch_size)), [])
    if not num_workers:
        for group in groups:
            yield [prepare(image) for image in group]
        return
    threads = ThreadPoolExecutor(num_workers, thread_name_prefix="images")
    ahead: deque[list[Future]] = deque()
    try:
        for group in groups:
            ahead.append([threads.submit(prepare, image) for image in group])
            if len(ahead) > _BATCHES_AHEAD:
                yield [future.result() for future in ahead.popleft()]
        while ahead:
            yield [future.result() for future in ahead.popleft()]
    finally:
        threads.shutdown(cancel_futures=True)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"There is neither an image nor a folder {path} (working folder: {Path.cwd()}).")
        yield path
        return
    found = list_images(path)
    if not found:
        raise ValueError(f"The folder {path} holds no image: no file below it ends in {', '.join(IMAGE_SUFFIXES)}.")
    yield from found


def _rows(images: np.ndarray | Tensor) -> Iterator[np.ndarray | Tensor]:
    """The images of one array: itself, or one by one of a batch."""
    is_tensor = isinstance(images, Tensor)
    channels, layout = (-3, "[3, H, W] or [B, 3, H, W]") if is_tensor else (-1, "[H, W, 3] or [B, H, W, 3]")
    what = "A tensor of images" if is_tensor else "A NumPy array of images"
    if images.dtype != (torch.uint8 if is_tensor else np.uint8):
        raise ValueError(
            f"{what} must be uint8, got {str(images.dtype).removeprefix('torch.')}: numbers of another type may be in "
            "[0, 1], in [0, 255] or normalised already. Values in [0, 1] become uint8 by (255 * x).round()."
        )
    if images.ndim not in (3, 4) or images.shape[channels] != 3 or 0 in images.shape[-3:]:
        raise ValueError(f"{what} must be {layout}, RGB, got shape {list(images.shape)}.")
    if images.ndim == 3:
        yield images
    else:
        yield from images


def _described(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
