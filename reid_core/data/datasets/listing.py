"""What lies in a folder of images, and the lists that name them: nothing here knows how a dataset names an image."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from reid_core.utils.logging import get_logger

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Taken for images too, so that a dataset in one of them is an error that names its files, and not an empty folder.
_LOOK_LIKE_IMAGES = (*IMAGE_SUFFIXES, ".bmp", ".gif", ".tif", ".tiff", ".webp")
_CLUTTER = ("thumbs.db", "desktop.ini")  # left by file managers; Market-1501's own archive holds a Thumbs.db
_EXAMPLES = 5


class Listing(NamedTuple):
    """images: paths below the folder, sorted. foreign: everything else, folders with a '/' at their end."""

    images: list[str]
    foreign: list[str]


def scan_folder(folder: Path, prefix: str = "") -> Listing:
    """The files of a folder whose names end as images do, in any case, and what else lies there.

    prefix: put before each path. Links are followed. Raises FileNotFoundError for links that lead nowhere.
    """
    images, foreign, broken = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            looks_like_image = name.lower().endswith(_LOOK_LIKE_IMAGES) and not name.startswith(".")
            if looks_like_image and entry_is(entry, "file"):
                images.append(prefix + name)
            elif entry_is(entry, "dir"):
                foreign.append(f"{prefix}{name}/")
            elif looks_like_image:
                broken.append(name)
            else:
                foreign.append(prefix + name)
    if broken:
        raise FileNotFoundError(
            f"{len(broken)} entries of {printable(folder)} are named as images but are links that lead to no file: "
            f"{examples(sorted(broken))}. Restore what they point to, or remove them."
        )
    return Listing(sorted(images), sorted(foreign))


def scan_subfolders(folder: Path, names: Collection[str] | None = None) -> Listing:
    """The images of a folder's subfolders as `subfolder/name`: a listing a folder is far cheaper than a look an image.

    names: the subfolders to look into, those that do not exist being empty; None: all that there are.
    """
    images, foreign = [], []
    with os.scandir(folder) as entries:
        subfolders = set()
        for entry in entries:
            if entry_is(entry, "dir"):
                subfolders.add(entry.name)
            else:
                foreign.append(entry.name)
    for name in sorted(subfolders if names is None else subfolders.intersection(names)):
        listing = scan_folder(folder / name, f"{name}/")
        images += listing.images
        foreign += listing.foreign
    return Listing(sorted(images), sorted(foreign))


def log_foreign(folder: Path, foreign: list[str]) -> None:
    """Say how many entries were passed over; a warning where they are folders, which may hold images."""
    folders = [name for name in foreign if name.endswith("/")]
    if folders:
        text = "%s: %d folders among the images are not looked into: %s."
        get_logger().warning(text, printable(folder), len(folders), examples(folders))
    files = [name for name in foreign if not name.endswith("/")]
    if files:
        text = "%s: %d files ignored that are not images: %s."
        get_logger().info(text, printable(folder), len(files), examples(files))


def read_lines(path: Path) -> list[str]:
    """The lines of a list file without the white space around them; those that hold nothing else are empty.

    Bytes outside UTF-8 become what `os.listdir` makes of them, so that they match the names on disk.
    """
    return [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()]


def locate_listed(listed: Iterable[str], on_disk: list[str], folder: Path, lists: str) -> dict[str, str]:
    """Listed path -> path on disk, which may differ from it in its ending alone (`.JPG` for `.jpg` or for none).

    on_disk: sorted paths of the images below `folder`. lists: names of the lists, for the error.
    Raises FileNotFoundError naming listed images that are not there.
    """
    listed, exact = list(listed), set(on_disk)
    by_stem: dict[str, str] = {}
    if not exact.issuperset(listed):
        by_stem = {without_ending(path): path for path in reversed(on_disk)}  # of several endings the first by name
    located = {path: path if path in exact else by_stem.get(without_ending(path), "") for path in listed}
    missing = sorted(path for path, found in located.items() if not found)
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(listed)} images listed in {lists} are not in {printable(folder)}: "
            f"{examples(missing)}. Re-extract the dataset; its lists and images must be of one release."
        )
    return located


def without_ending(path: str) -> str:
    """The path without the ending of an image, if it has one: copies of a dataset differ in it (`.JPG`)."""
    stem, dot, suffix = path.rpartition(".")
    return stem if dot + suffix.lower() in IMAGE_SUFFIXES else path


def list_files(folder: Path) -> list[str]:
    """Names of everything in a folder, sorted, without hidden files and those that file managers leave."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    return sorted(name for name in names if not name.startswith(".") and name.lower() not in _CLUTTER)


def examples(names: list[str]) -> str:
    """The first few of many names, for an error or the log."""
    return ", ".join(map(printable, names[:_EXAMPLES])) + (" ..." if len(names) > _EXAMPLES else "")


def printable(path: str | os.PathLike) -> str:
    r"""A path as text that every log and terminal takes: bytes outside UTF-8 become escapes such as `\udce9`."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")


def entry_is(entry: os.DirEntry, kind: str) -> bool:
    """Whether it, or what it links to, is there as a "file" or "dir"."""
    try:
        return entry.is_file() if kind == "file" else entry.is_dir()
    except OSError:  # a link in a circle, or to where one may not look
        return False
