"""Build, change, search and describe a gallery of image features."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from tabulate import tabulate

from reid_core.commands.running import add_loading_arguments, command_parser, run_command
from reid_core.data.feature_files import FEATURE, Column, open_features
from reid_core.inference.extraction import model_fingerprint
from reid_core.inference.image_gallery import Hit, ImageGallery
from reid_core.inference.inputs import list_images
from reid_core.inference.loading import load
from reid_core.retrieval import GalleryIndex
from reid_core.retrieval.distance import METRICS
from reid_core.retrieval.gallery_files import MANIFEST
from reid_core.utils.file_io import write_atomically

_EXAMPLES = """examples:
  %(prog)s build output/gallery output/features.parquet
  %(prog)s add output/gallery output/more.npz
  %(prog)s remove output/gallery --paths images/a.jpg images/b.jpg
  %(prog)s query output/gallery person.jpg --model output/run/best.pt -k 10 --exclude-cameras 3
  %(prog)s query output/gallery --features query.parquet --same-camera-rule --format jsonl
  %(prog)s info output/gallery

A gallery is searched exactly unless --factory asks faiss for an approximate index: docs/retrieval.md.
"""
_SHOWN = ("path", "pid", "camid", "frame", "track", "timestamp")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make a gallery of a feature file")
    build.add_argument("--metric", choices=sorted(METRICS), default="cosine", help="default: %(default)s")
    build.add_argument("--factory", default="Flat", help="faiss's name of the index; Flat: exact (default)")
    build.add_argument("--nprobe", type=int, default=16, help="lists that an IVF search visits")
    build.add_argument("--ef-search", type=int, default=64, help="length of an HNSW search's queue")
    build.add_argument("--overwrite", action="store_true", help="replace the gallery that is there")
    add = commands.add_parser("add", help="add a feature file's images")
    remove = commands.add_parser("remove", help="remove images")
    query = commands.add_parser("query", help="find the nearest images")
    info = commands.add_parser("info", help="what is in it")
    for command in (build, add, remove, query, info):
        command.add_argument("gallery", help="its folder")
    for command in (build, add):
        command.add_argument("features", help="an extracted feature file; its columns id, path, camid, ... are kept")
    which = remove.add_mutually_exclusive_group(required=True)
    which.add_argument("--ids", type=int, nargs="+", metavar="ID")
    which.add_argument("--paths", nargs="+", metavar="PATH", help="as they are shown")
    _add_query_arguments(query)
    return parser.parse_args(argv)


def _add_query_arguments(query: argparse.ArgumentParser) -> None:
    query.add_argument("images", nargs="*", help="image files, or folders of them; needs --model")
    query.add_argument("--model", help="that made the gallery's features: checkpoint, model folder, user/name")
    query.add_argument("--features", metavar="FILE", help="a feature file of queries, instead of images")
    query.add_argument("-k", type=int, default=10, help="images for each query (default: %(default)s)")
    query.add_argument(
        "--same-camera-rule", action="store_true", help="leave out images by a query's own camera: camid of --features"
    )
    query.add_argument("--only-cameras", nargs="+", metavar="NAME")
    query.add_argument("--exclude-cameras", nargs="+", metavar="NAME")
    query.add_argument("--after", type=float, metavar="SECONDS", help="only images of this time or later")
    query.add_argument("--before", type=float, metavar="SECONDS", help="only images of this time or earlier")
    query.add_argument("--format", choices=("table", "jsonl"), default="table", help="default: %(default)s")
    query.add_argument("--output", type=Path, metavar="FILE", help="default: the standard output")
    query.add_argument("--flip", action="store_true", help="as the gallery's features were extracted")
    add_loading_arguments(query)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    job = {"build": _build, "add": _add, "remove": _remove, "query": _query, "info": _info}[arguments.command]
    return run_command(lambda out: job(arguments, out))


def _build(arguments: argparse.Namespace, out: TextIO) -> None:
    folder = Path(arguments.gallery).expanduser()
    table = open_features(arguments.features)
    if (folder / MANIFEST).exists() and not arguments.overwrite:
        raise FileExistsError(f"{folder} holds a gallery already. Add to it, or replace it by --overwrite.")
    index = GalleryIndex(
        table.width, arguments.factory, arguments.metric, nprobe=arguments.nprobe, ef_search=arguments.ef_search
    )
    gallery = ImageGallery(index)
    gallery.add(table)
    with ImageGallery.lock(folder):
        gallery.save(folder)
    out.write(f"{arguments.gallery}: {len(gallery)} images\n")


def _add(arguments: argparse.Namespace, out: TextIO) -> None:
    table = open_features(arguments.features)
    with ImageGallery.lock(_existing(arguments.gallery)):
        gallery = ImageGallery.load(arguments.gallery)
        added = gallery.add(table)
        gallery.save(arguments.gallery)
    out.write(f"{arguments.gallery}: {added} images added, {len(gallery)} in all\n")


def _remove(arguments: argparse.Namespace, out: TextIO) -> None:
    with ImageGallery.lock(_existing(arguments.gallery)):
        gallery = ImageGallery.load(arguments.gallery)
        ids = arguments.ids or gallery.ids_of_paths(arguments.paths)
        gallery.remove(ids)
        gallery.save(arguments.gallery)
    out.write(f"{arguments.gallery}: {len(ids)} images removed, {len(gallery)} in all\n")


def _query(arguments: argparse.Namespace, out: TextIO) -> None:
    if bool(arguments.images) == bool(arguments.features):
        raise ValueError("A query is either images (with --model) or --features FILE.")
    gallery = ImageGallery.load(arguments.gallery)
    names, features, camids = (_encode if arguments.images else _read)(arguments, gallery)
    span = (arguments.after, arguments.before)
    hits = gallery.search(
        features,
        arguments.k,
        camids=camids,
        only_cameras=arguments.only_cameras,
        exclude_cameras=arguments.exclude_cameras,
        time_range=None if span == (None, None) else span,
    )
    text = (_table if arguments.format == "table" else _json_lines)(names, hits)
    if arguments.output is None:
        out.write(text)
    else:
        write_atomically(arguments.output, text.encode())
        out.write(f"{arguments.output}: {len(names)} queries\n")


def _info(arguments: argparse.Namespace, out: TextIO) -> None:
    gallery = ImageGallery.load(arguments.gallery)
    cameras = gallery.camera_counts()
    rows = {
        "images": len(gallery),
        "identities": gallery.num_identities() or "unknown",
        "cameras": ", ".join(f"{name} ({count})" for name, count in cameras.items()) or "unknown",
        "width": gallery.index.width,
        "index": gallery.index.factory,
        "metric": gallery.index.metric,
        "model": gallery.model or "unknown",
    }
    out.write(tabulate(rows.items(), tablefmt="plain", disable_numparse=True) + "\n")


def _existing(folder: str) -> Path:
    """Raises what loading does where there is no gallery: a lock would make the folder."""
    path = Path(folder).expanduser()
    if not (path / MANIFEST).is_file():
        raise FileNotFoundError(f"There is no gallery in {path} (no {MANIFEST}). Build one first.")
    return path


def _encode(arguments: argparse.Namespace, gallery: ImageGallery) -> tuple[list[str], np.ndarray, Column | None]:
    """Names, features and cameras of query images."""
    if not arguments.model:
        raise ValueError("Query images need --model: the one that made the gallery's features.")
    if arguments.same_camera_rule:
        raise ValueError("--same-camera-rule is for --features; leave a camera out by --exclude-cameras.")
    paths = [path for image in arguments.images for path in _files(Path(image).expanduser())]
    model = load(arguments.model, arguments.device, arguments.project, arguments.precision)
    gallery.check_model(model_fingerprint(model))
    features = model.encode(paths, flip=arguments.flip)
    return [str(path) for path in paths], features, None


def _read(arguments: argparse.Namespace, gallery: ImageGallery) -> tuple[list[str], np.ndarray, Column | None]:
    """Names, features and cameras of a feature file's queries."""
    table = open_features(arguments.features, ["camid"] if arguments.same_camera_rule else [])
    gallery.check_model(str(table.metadata.get("model", "")))
    columns = table.read([name for name in ("path", "camid", FEATURE) if name in table.types])
    names = columns.get("path") or [f"row {number}" for number in range(table.count)]
    return names, columns[FEATURE], columns["camid"] if arguments.same_camera_rule else None


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise FileNotFoundError(f"There is neither an image nor a folder {path} (working folder: {Path.cwd()}).")
    return list_images(path) if path.is_dir() else [path]


def _json_lines(names: Sequence[str], hits: Sequence[Sequence[Hit]]) -> str:
    rows = ({"query": name, "hits": found} for name, found in zip(names, hits, strict=True))
    return "".join(json.dumps(row) + "\n" for row in rows)


def _table(names: Sequence[str], hits: Sequence[Sequence[Hit]]) -> str:
    shown = [column for column in _SHOWN if any(column in hit for found in hits for hit in found)]
    rows = [
        [name if place == 0 else "", hit["rank"], f"{hit['distance']:.4f}", hit["id"], *map(hit.get, shown)]
        for name, found in zip(names, hits, strict=True)
        for place, hit in enumerate(found or [{"rank": "-", "distance": np.nan, "id": "none"}])
    ]
    return (
        tabulate(rows, headers=["query", "rank", "distance", "id", *shown], tablefmt="plain", disable_numparse=True)
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
