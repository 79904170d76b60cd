"""A gallery index on the disk: data files that are never overwritten, and a manifest that says which belong together.

A save writes new data files under new names, then the manifest, each atomically; only then are the files of the
previous version removed. So a reader finds the old version or the new one, complete, whatever interrupts a save.
Size and hash of every file are checked before anything parses it. There may be one writer at a time.
"""

import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from reid_core.utils.file_io import atomic_file, remove_left_overs, write_atomically

FORMAT = "reid-core gallery index 1"
MANIFEST = "manifest.json"
_BLOCK = 2**20
_DATA_FILE = re.compile(r"[a-z]+-[0-9a-f]{32}\.bin")


class GalleryIndexError(RuntimeError):
    """A saved gallery index that cannot be written, read or changed; the text says which, why, and what to do."""


def write_version(folder: Path, settings: Mapping[str, Any], files: Mapping[str, Callable[[BinaryIO], None]]) -> None:
    """Make `settings` and `files` (kind -> what writes it) the content of `folder`.

    Raises GalleryIndexError if the disk refuses; then the previous version is what the folder holds.
    """
    folder = Path(folder)
    written, manifest = {}, b""
    try:
        try:
            for kind, write in files.items():
                path = folder / f"{kind}-{uuid.uuid4().hex}.bin"
                with atomic_file(path) as file:
                    hashing = _HashingFile(file)
                    write(hashing)
                written[kind] = {"file": path.name, "bytes": hashing.size, "sha256": hashing.hash.hexdigest()}
            manifest = json.dumps({"format": FORMAT, **settings, "files": written}, indent=1).encode()
            write_atomically(folder / MANIFEST, manifest)
        except BaseException:
            # An interrupt can come when the new manifest is in its place already; then the new files belong there.
            if not manifest or not _holds(folder / MANIFEST, manifest):
                for entry in written.values():
                    (folder / entry["file"]).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise GalleryIndexError(
            f"The gallery index {folder} could not be written: {error.strerror or error}. Its previous version is "
            "untouched; free some space or choose another folder."
        ) from error
    with contextlib.suppress(OSError):  # what is left behind costs space only; the next save tries again
        _remove_others(folder, {entry["file"] for entry in written.values()})


def read_version(folder: str | Path, verify: bool = True) -> tuple[dict[str, Any], dict[str, Path]]:
    """The manifest of a saved index and the paths of its data files, their sizes and (verify) hashes checked.

    Raises GalleryIndexError for a folder that holds none, and for files that are missing, truncated or changed.
    """
    folder = Path(folder).expanduser()
    path = folder / MANIFEST
    if not path.is_file():
        raise GalleryIndexError(f"There is no gallery index in {folder} (no {MANIFEST}).")
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] != FORMAT:
            raise GalleryIndexError(f"{path} is of format {manifest['format']!r}; this version reads {FORMAT!r}.")
        entries = {
            kind: (folder / Path(entry["file"]).name, int(entry["bytes"]), str(entry["sha256"]))
            for kind, entry in manifest["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GalleryIndexError(f"{path} is damaged or no manifest of a gallery index: {error!r}.") from error
    for file, size, digest in entries.values():
        _check_file(file, size, digest if verify else None)
    return manifest, {kind: file for kind, (file, _, _) in entries.items()}


def _check_file(path: Path, size: int, digest: str | None) -> None:
    advice = "Restore it from a copy, or build and save the index again."
    if not path.is_file():
        raise GalleryIndexError(f"{path} is missing, but {MANIFEST} beside it names it. {advice}")
    if path.stat().st_size != size:
        raise GalleryIndexError(
            f"{path} was refused: it has {path.stat().st_size} bytes and was written with {size}; it is truncated or "
            f"another file. {advice}"
        )
    if digest is None:
        return
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hashed.update(block)
    if hashed.hexdigest() != digest:
        raise GalleryIndexError(f"{path} was refused: its content is not what was written (SHA-256 differs). {advice}")


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _remove_others(folder: Path, kept: set[str]) -> None:
    remove_left_overs(folder)
    for path in folder.iterdir():
        if _DATA_FILE.fullmatch(path.name) and path.name not in kept:
            path.unlink()


class _HashingFile:
    """Passes writes on; knows size and hash of what was written."""

    def __init__(self, file: BinaryIO):
        self._file, self.size, self.hash = file, 0, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self._file.write(content)
        self.hash.update(content)
        self.size += len(content)
        return len(content)
