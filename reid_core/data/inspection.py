"""What is in a dataset: counts, image sizes, broken files, images that stand on both sides of the split; a picture."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from tabulate import tabulate

from reid_core.data.datasets.base import SPLITS, UNLABELLED, ReIDDataset
from reid_core.data.datasets.listing import printable
from reid_core.data.image_table import ImageTable
from reid_core.data.images import read_image
from reid_core.data.rendering.contact_sheet import write_sheet

_CHUNK = 256  # images that a thread reads at a time
_SHOWN = 20  # broken files and duplicates that the text lists; the lists hold all
_BAR = 40  # characters of the histogram's longest bar
_MOST_CAMERAS = 12  # on a contact sheet
_CELL_HEIGHT = 128  # pixels, of a contact sheet's pictures


class ImageScan(NamedTuple):
    """Every image decoded once. sizes: int32 [N, 2], height and width, 0 for a broken one. digests: uint64 [N], of
    the decoded pixels; equal for equal pictures. problems: position -> why the image cannot be used."""

    sizes: np.ndarray
    digests: np.ndarray
    problems: dict[int, str]


class Inspection(NamedTuple):
    """scans: by split; empty if the images were not read. duplicates: pairs of a training and a test image of equal
    pixels, as paths below the dataset's folder."""

    dataset: ReIDDataset
    scans: dict[str, ImageScan]
    duplicates: list[tuple[str, str]]

    @property
    def broken(self) -> list[str]:
        """What is wrong with each image that cannot be used; the texts name the files."""
        return [problem for scan in self.scans.values() for problem in scan.problems.values()]

    def text(self) -> str:
        """The whole, to be read by a person."""
        tables = {split: getattr(self.dataset, split) for split in SPLITS if len(getattr(self.dataset, split))}
        headers = ["split", "images", "identities", "no identity", "cameras", "images of an identity*"]
        rows = [_split_row(split, table) for split, table in tables.items()]
        if not self.dataset.names_cameras:
            rows = [[*row[:4], "unknown", row[5]] for row in rows]
        if self.scans:
            headers += ["height*", "width*", "broken"]
            rows = [row + _scan_row(scan) for row, scan in zip(rows, self.scans.values(), strict=True)]
        parts = [
            f"{self.dataset.name} ({self.dataset.kind}) in {printable(self.dataset.folder)}",
            tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True) + "\n* least / median / most",
        ]
        parts += [f"{split}: images of an identity\n{histogram(table.pids)}" for split, table in tables.items()]
        if self.broken:
            parts.append(_listed(f"{len(self.broken)} images cannot be used:", self.broken))
        if self.duplicates:
            pairs = [f"{printable(train)} = {printable(test)}" for train, test in self.duplicates]
            parts.append(_listed(f"{len(pairs)} test images have the pixels of a training image:", pairs))
        return "\n\n".join(parts)


def inspect_dataset(dataset: ReIDDataset, workers: int = 1, read_images: bool = True) -> Inspection:
    """Decode all images of the dataset, each once, in `workers` threads; a broken one is noted and passed over.

    read_images: False only counts what the names say.
    """
    if not read_images:
        return Inspection(dataset, {}, [])
    tables = {split: getattr(dataset, split) for split in SPLITS if len(getattr(dataset, split))}
    joined = scan_images(ImageTable.concatenate(list(tables.values())).paths, workers)
    scans, first = {}, 0
    for split, table in tables.items():
        here = slice(first, first + len(table))
        problems = {at - first: text for at, text in joined.problems.items() if here.start <= at < here.stop}
        scans[split] = ImageScan(joined.sizes[here], joined.digests[here], problems)
        first += len(table)
    return Inspection(dataset, scans, _duplicates(tables, scans))


def scan_images(paths: Sequence[str], workers: int = 1) -> ImageScan:
    """Decode every image once, in `workers` threads. Raises ValueError for fewer than one."""
    if workers < 1:
        raise ValueError(f"Images are read in at least one thread, got {workers}.")
    chunks = [[paths[at] for at in range(i, min(i + _CHUNK, len(paths)))] for i in range(0, len(paths), _CHUNK)]
    if workers == 1 or len(chunks) == 1:
        parts = [_scan_chunk(chunk) for chunk in chunks]
    else:
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(_scan_chunk, chunks))
    problems = {i * _CHUNK + at: text for i, part in enumerate(parts) for at, text in part.problems.items()}
    sizes = np.concatenate([part.sizes for part in parts]) if parts else np.zeros((0, 2), dtype=np.int32)
    digests = np.concatenate([part.digests for part in parts]) if parts else np.zeros(0, dtype=np.uint64)
    return ImageScan(sizes, digests, problems)


def histogram(pids: np.ndarray) -> str:
    """How many identities have 1, 2, 3 to 4, 5 to 8 ... images, as lines with bars; pids: int64 [N], -1 left out."""
    counts = np.unique(pids[pids != UNLABELLED], return_counts=True)[1]
    if not len(counts):
        return "  no identities"
    bins = np.ceil(np.log2(counts)).astype(int)
    heights = np.bincount(bins)
    lines = []
    for number in range(bins.min(), len(heights)):
        low, high = 2 ** (number - 1) + 1 if number > 1 else number + 1, 2**number
        name = f"{low}" if low == high else f"{low} to {high}"
        bar = "#" * -(-_BAR * int(heights[number]) // int(heights.max()))
        lines.append(f"  {name:>14} {heights[number]:>8} {bar}".rstrip())
    return "\n".join(lines)


def write_dataset_sheet(
    path: str | Path, dataset: ReIDDataset, split: str = "train", identities: int = 12, per_camera: int = 2
) -> None:
    """Write a PNG of some identities of a split: a row for each, evenly spaced over all, their images by camera.

    Of many cameras those that see most of these identities are shown; where the dataset names no cameras, an identity's
    first images. Unlabelled images are shown without order. A broken file is a crossed-out cell.
    Raises ValueError for an empty split.
    """
    table: ImageTable = getattr(dataset, split)
    if not len(table):
        raise ValueError(f"{dataset.name} has no {split} images to show.")
    rows = _chosen_rows(table, identities)
    cameras, cells = _cells(table, list(rows.values()), dataset.names_cameras, per_camera)
    pictures = {cell: _read_picture(table.paths[position]) for cell, position in cells.items()}
    ratios = [picture.width / picture.height for picture in pictures.values() if picture is not None] or [0.5]
    size = (_CELL_HEIGHT, round(_CELL_HEIGHT * min(2.0, max(0.4, float(np.median(ratios))))))
    pictures = {cell: picture or _crossed_out(size) for cell, picture in pictures.items()}
    names = dataset.pid_values
    row_names = [printable(names[pid]) if names and pid >= 0 else str(pid) if pid >= 0 else "" for pid in rows]
    width = max(column for _, column in cells) + 1
    column_names = [""] * width
    camera_names = dataset.camid_values
    for number, camera in enumerate(cameras):
        column_names[number * per_camera] = printable(camera_names[camera]) if camera_names else f"camera {camera + 1}"
    write_sheet(path, pictures, (len(rows), width), size, row_names, column_names if cameras else ())


def _scan_chunk(paths: Sequence[str]) -> ImageScan:
    sizes, digests = np.zeros((len(paths), 2), dtype=np.int32), np.zeros(len(paths), dtype=np.uint64)
    problems = {}
    for position, path in enumerate(paths):
        try:
            pixels = read_image(path).permute(1, 2, 0).contiguous().numpy()
        except OSError as error:
            problems[position] = printable(str(error))
            continue
        sizes[position] = pixels.shape[:2]
        digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=8)
        digest.update(pixels)
        digests[position] = int.from_bytes(digest.digest(), "little")
    return ImageScan(sizes, digests, problems)


def _duplicates(tables: dict[str, ImageTable], scans: dict[str, ImageScan]) -> list[tuple[str, str]]:
    if "train" not in scans:
        return []
    whole = np.flatnonzero(scans["train"].sizes[:, 0])
    first_of = {int(scans["train"].digests[at]): at for at in whole[::-1]}
    pairs = []
    for split in ("query", "gallery"):
        if split in scans:
            candidates = np.flatnonzero(np.isin(scans[split].digests, scans["train"].digests[whole]))
            pairs += [
                (
                    tables["train"].paths.relative(first_of[int(scans[split].digests[at])]),
                    tables[split].paths.relative(at),
                )
                for at in candidates
                if scans[split].sizes[at, 0]
            ]
    return pairs


def _split_row(split: str, table: ImageTable) -> list[str]:
    known = table.pids[table.pids != UNLABELLED]
    counts = np.unique(known, return_counts=True)[1]
    numbers = (len(table), len(counts), len(table) - len(known), len(np.unique(table.camids)))
    return [split, *map(str, numbers), _spread(counts)]


def _scan_row(scan: ImageScan) -> list[str]:
    whole = scan.sizes[scan.sizes[:, 0] > 0]
    return [_spread(whole[:, 0]), _spread(whole[:, 1]), str(len(scan.problems))]


def _spread(values: np.ndarray) -> str:
    return f"{values.min()} / {np.median(values):g} / {values.max()}" if len(values) else "-"


def _listed(title: str, lines: list[str]) -> str:
    more = [f"... {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join([title, *(f"  {line}" for line in [*lines[:_SHOWN], *more])])


def _chosen_rows(table: ImageTable, identities: int) -> dict[int, np.ndarray]:
    """Positions by pid, of evenly spaced identities; unlabelled images in rows -1, -2, ... if there are no others."""
    pids = np.unique(table.pids[table.pids != UNLABELLED])
    if len(pids):
        chosen = pids[np.linspace(0, len(pids) - 1, min(identities, len(pids))).round().astype(int)]
        return {int(pid): np.flatnonzero(table.pids == pid) for pid in chosen}
    positions = np.linspace(0, len(table) - 1, min(len(table), identities * _MOST_CAMERAS)).round().astype(int)
    return {-1 - row: part for row, part in enumerate(np.array_split(positions, min(identities, len(positions))))}


def _cells(
    table: ImageTable, rows: list[np.ndarray], by_camera: bool, per_camera: int
) -> tuple[list[int], dict[tuple[int, int], int]]:
    """The cameras shown, and the image at each (row, column)."""
    if not by_camera:
        most = per_camera * _MOST_CAMERAS
        return [], {
            (row, column): at for row, part in enumerate(rows) for column, at in enumerate(part[:most].tolist())
        }
    seen = np.bincount(np.concatenate([np.unique(table.camids[part]) for part in rows]))
    order = np.argsort(-seen, kind="stable")[: min(_MOST_CAMERAS, np.count_nonzero(seen))]
    cameras = sorted(order.tolist())
    cells = {}
    for row, part in enumerate(rows):
        for number, camera in enumerate(cameras):
            for index, at in enumerate(part[table.camids[part] == camera][:per_camera].tolist()):
                cells[row, number * per_camera + index] = at
    return cameras, cells


def _read_picture(path: str) -> Image.Image | None:
    try:
        return Image.fromarray(read_image(path).permute(1, 2, 0).numpy())
    except OSError:
        return None


def _crossed_out(size: tuple[int, int]) -> Image.Image:
    cell = Image.new("RGB", size[::-1], (210, 208, 204))
    draw = ImageDraw.Draw(cell)
    draw.line((0, 0, size[1], size[0]), fill=(150, 40, 40), width=2)
    draw.line((0, size[0], size[1], 0), fill=(150, 40, 40), width=2)
    return cell
