"""Decoded images in one file, built once and shared by worker processes, training processes and runs.

The file's name is the fingerprint of what was decoded and how, so that a changed image or setting means another file;
it takes that name only when it is whole, so that a process killed while it builds leaves nothing that could be
mistaken for a cache. Images are read at their place, not mapped: the operating system shares the pages just the same,
a transform may write to what it gets, and a failing disk is an error instead of the end of the process.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from reid_core.data.decoded_images import DecodedImages
from reid_core.data.threads import map_in_threads
from reid_core.utils.file_io import atomic_file, remove_left_overs
from reid_core.utils.logging import get_logger

_SUFFIX = ".images"


class ImageCache:
    """What `DecodedImages` gives, from a file in `folder`, which is built first if it is not there.

    The file: the pixels of one image after the other, then height and width of each, int32 [N, 2]. Resized images are
    stored by channel, others as rows of RGB pixels, as they come.
    """

    def __init__(self, images: DecodedImages, folder: str | Path, num_threads: int = 1):
        """num_threads: how many decode while the cache is built.

        Raises OSError if the disk has too little room (with the numbers), if the folder cannot be written to, if an
        image cannot be decoded, and if an image is changed while the cache is built.
        """
        self._by_channel = images.resize is not None
        self.path = Path(folder).expanduser() / f"{images.fingerprint()}{_SUFFIX}"
        if not self.path.exists():
            _build(images, self.path, num_threads)
        self._open(len(images))

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, position: int) -> Tensor:
        """uint8 [3, H, W], of its own memory. Raises OSError if the file cannot be read."""
        height, width = self._sizes[position].tolist()
        shape = (3, height, width) if self._by_channel else (height, width, 3)
        pixels = np.empty(shape, dtype=np.uint8)
        if os.preadv(self._file.fileno(), [pixels], int(self._starts[position])) != pixels.nbytes:
            raise OSError(f"{self.path} is shorter than when it was opened; delete it, so that it is built again.")
        image = torch.from_numpy(pixels)
        return image if self._by_channel else image.permute(2, 0, 1)

    def _open(self, count: int) -> None:
        self._file = self.path.open("rb", buffering=0)
        size = os.fstat(self._file.fileno()).st_size
        table = os.pread(self._file.fileno(), 8 * count, max(size - 8 * count, 0))
        self._sizes = np.frombuffer(table[: len(table) // 8 * 8], dtype="<i4").reshape(-1, 2)
        ends = _image_bytes(self._sizes).cumsum()
        if len(self._sizes) != count or size != (int(ends[-1]) if count else 0) + 8 * count:
            raise OSError(f"{self.path} is not a whole cache of {count} images; delete it, so that it is built again.")
        self._starts = ends - _image_bytes(self._sizes)

    def __getstate__(self) -> dict:
        """For workers that are not forked: they open the file themselves."""
        return {name: value for name, value in vars(self).items() if name != "_file"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._file = self.path.open("rb", buffering=0)


def _build(images: DecodedImages, path: Path, num_threads: int) -> None:
    with _errors_named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        sizes = map_in_threads(images.size, range(len(images)), num_threads)
        sizes = np.array(list(sizes), dtype="<i4").reshape(-1, 2)
        needed = int(_image_bytes(sizes).sum()) + sizes.nbytes
        get_logger().info(
            f"Cache of {len(images)} decoded images: {_megabytes(needed)} MB in {path.parent}, where "
            f"{_megabytes(shutil.disk_usage(path.parent).free)} MB are free."
        )
        # One builder at a time in the folder: the others wait and find the file, or know how much room is left.
        with FileLock(path.parent / "lock"):
            remove_left_overs(path.parent)  # of a builder that was killed: no other one can be at work
            if path.exists():
                return
            _log_others(path.parent)
            free = shutil.disk_usage(path.parent).free
            if free < needed:
                raise OSError(
                    f"The decoded images need {_megabytes(needed)} MB in {path.parent}, where {_megabytes(free)} MB "
                    "are free. Make room, point DATALOADER.CACHE_DIR elsewhere, or leave it empty to do without."
                )
            with atomic_file(path) as file:
                _write(images, sizes, file, num_threads)
                if images.fingerprint() != path.stem:
                    raise OSError(
                        f"Image files were changed while the cache in {path.parent} was built; start again when they "
                        "stay as they are."
                    )


def _write(images: DecodedImages, sizes: np.ndarray, file: BinaryIO, num_threads: int) -> None:
    for position, image in enumerate(map_in_threads(images.__getitem__, range(len(images)), num_threads)):
        stored = image if images.resize is not None else image.permute(1, 2, 0)
        if image.shape[1:] != tuple(sizes[position]):
            raise ValueError(
                f"{images.paths[position]} is {list(image.shape[1:])} pixels, its header says "
                f"{sizes[position].tolist()}."
            )
        file.write(np.ascontiguousarray(stored.numpy()))
    file.write(sizes.tobytes())


@contextmanager
def _errors_named(folder: Path) -> Iterator[None]:
    """Gives errors of the operating system that name no more than a number the words that a user needs."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            f"The cache of decoded images cannot be written to {folder}: {error.strerror}. Set DATALOADER.CACHE_DIR to "
            "a folder with room and the right to write, or leave it empty to do without."
        ) from error


def _log_others(folder: Path) -> None:
    others = [entry.stat().st_size for entry in sorted(folder.glob(f"*{_SUFFIX}"))]
    if others:
        get_logger().info(
            f"{folder} holds {len(others)} other caches, {_megabytes(sum(others))} MB; those of settings or images "
            "that are no longer used can be deleted."
        )


def _image_bytes(sizes: np.ndarray) -> np.ndarray:
    return 3 * sizes.astype(np.int64).prod(axis=1)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f}"
