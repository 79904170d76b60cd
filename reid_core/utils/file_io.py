"""Writing files so that a reader never sees half of one."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` only when the block ends without an error.

    The content is written to a temporary file in the same folder, flushed to the disk (fsync) and renamed; after
    an error the temporary file is removed and what stood at `path` before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp gives 0600: other users could not read the result
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write bytes, or what `content(file)` writes, to `path` through `atomic_file`."""
    with atomic_file(path) as file:
        if callable(content):
            content(file)
        else:
            file.write(content)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder that takes the name `path`, and the place of what stood there, only when the block ends without
    an error.

    It is filled beside `path`; after an error it is removed, and `path` is untouched. A process that is killed between
    the two renames leaves the former folder as `.<name>.old`, which the next call puts back first.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = (path.with_name(f".{path.name}.{state}") for state in ("new", "old"))
    if old.is_dir() and not path.exists():
        os.replace(old, path)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        _sync_folder(new)
        if path.exists():
            os.replace(path, old)
        os.replace(new, path)
    except BaseException:
        if old.is_dir() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(new, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    _sync_folder(path.parent)


def remove_left_overs(folder: Path) -> None:
    """Remove what a killed process left of files that it was writing with `atomic_file` in this folder."""
    if Path(folder).is_dir():
        for path in Path(folder).glob(".*.tmp"):
            path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; not every file system can sync a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
