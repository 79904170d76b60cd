"""The images of a list of files, decoded and, where the transform begins with a resize, resized."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from reid_core.data import images as decoding
from reid_core.data.images import read_image, read_size
from reid_core.data.transforms import Resize

_VERSION = 1  # raise it with every change that alters a decoded pixel, so that older caches are not used


class DecodedImages:
    """`images[position]` is uint8 [3, H, W], decoded (and resized) anew each time; nothing in it is random."""

    def __init__(self, paths: Sequence[str], resize: Resize | None = None, scaled_decoding: bool = False):
        """scaled_decoding: decode JPEGs that are much larger than the resize's size at a part of theirs.

        Without a resize there is no size to scale for.
        """
        self.paths, self.resize = paths, resize
        self._at_least = resize.size if resize is not None and scaled_decoding else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> Tensor:
        """Raises as `read_image`."""
        image = read_image(self.paths[position], self._at_least)
        return image if self.resize is None else self.resize(image)

    def size(self, position: int) -> tuple[int, int]:
        """Height and width of `self[position]`, without decoding it. Raises as `read_image`."""
        return read_size(self.paths[position]) if self.resize is None else tuple(self.resize.size)

    def fingerprint(self) -> str:
        """sha256 over every file's path, size and time of change, how it is decoded, and by which libraries.

        Raises FileNotFoundError if a file has gone.
        """
        resize = None if self.resize is None else (self.resize.size, self.resize.interpolation.value)
        decoder = getattr(decoding.simplejpeg, "__version__", None)
        libraries = (torch.__version__, PIL.__version__, decoder, torch.backends.cpu.get_cpu_capability())
        digest = hashlib.sha256(repr((_VERSION, resize, self._at_least, libraries)).encode())
        for path in self.paths:
            digest.update(os.fsencode(path) + b"\0")
            digest.update(np.array(_file_state(path), dtype="<i8").tobytes())
        return digest.hexdigest()


def _file_state(path: str) -> tuple[int, int]:
    """Bytes, and nanoseconds of the last change."""
    try:
        state = Path(path).stat()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is listed by the dataset but not on disk; was it moved after indexing?"
        ) from None
    return state.st_size, state.st_mtime_ns
