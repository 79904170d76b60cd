"""Features of any number of images into one file: by shards, resumed where it stopped, shared by processes.

The shards lie in `<output>.parts/`, and each is written whole or not at all, with a digest of its images. They begin
and end at the same images in every run, and batches begin anew with each: so neither an interruption nor the number of
processes changes a byte of the merged file.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from reid_core.data.bad_images import POLICIES
from reid_core.data.feature_files import (
    FEATURE,
    Column,
    FeatureColumns,
    FeatureTable,
    check_suffix,
    write_features,
)
from reid_core.data.feature_files.parquet import ParquetFeatures
from reid_core.inference.image_sources import ImageSource
from reid_core.inference.model import ReIDModel
from reid_core.modeling.checkpoint import model_parts
from reid_core.utils import comm
from reid_core.utils.file_io import remove_left_overs, write_atomically
from reid_core.utils.logging import get_logger

FORMAT = "reid-core features 1"
SHARD_SIZE = 1024
_PLAN = "plan.json"
_LOG_PERIOD = 30.0  # seconds
_SHOWN = 5


@dataclass(frozen=True)
class ExtractionOptions:
    """batch_size, flip, num_workers: as in `ReIDModel.encode`. half: float16 features. shard_size: images that are
    written, and lost by an interruption, together. on_bad_image: "raise", or "skip": left out, counted and listed.

    Raises ValueError for values that make no sense.
    """

    batch_size: int | None = None
    flip: bool = False
    num_workers: int = 4
    half: bool = False
    shard_size: int = SHARD_SIZE
    on_bad_image: str = "raise"

    def __post_init__(self):
        if self.shard_size < 1:
            raise ValueError(f"The shard size must be positive, got {self.shard_size}.")
        if self.on_bad_image not in POLICIES:
            raise ValueError(f"on_bad_image must be one of {', '.join(POLICIES)}, got '{self.on_bad_image}'.")


@dataclass(frozen=True)
class ExtractionReport:
    """What was written: images with features; those left out, one sentence each; width of the features."""

    images: int
    skipped: list[str]
    width: int


def extract_features(
    model: ReIDModel,
    source: ImageSource,
    output: str | Path,
    options: ExtractionOptions | None = None,
    overwrite: bool = False,
    restart: bool = False,
    progress: bool | None = None,
) -> ExtractionReport | None:
    """Write the features of a source's images to a feature file. Every process has to call it.

    output: its ending names the format. What an interrupted call left in `<output>.parts/` is used again where images
    and settings are the same; shards whose images have changed are made anew, with a warning. overwrite: replace a
    finished output. restart: use nothing of an interrupted call. progress: as in `ReIDModel.encode`. Images that were
    skipped are listed in `<output>.skipped.txt`.

    Returns the report in the main process, None in the others. Raises FileExistsError for an output that is there,
    ValueError for parts of other settings and where no image is left, and what `ReIDModel.encode` raises.
    """
    options, output = options or ExtractionOptions(), Path(output).expanduser()
    check_suffix(output)
    job = _Job(model, source, output, options)
    todo = comm.broadcast_object(job.prepare(overwrite, restart) if comm.is_main() else None)
    job.run(todo[comm.rank() :: comm.world_size()], progress)
    comm.all_gather_objects(True)  # all shards are there
    return job.merge() if comm.is_main() else None


def model_fingerprint(model: ReIDModel) -> str:
    """A hash of the weights that the features need and of what is done to an image before them."""
    digest = hashlib.sha256()
    training = tuple(part for parts in model_parts(model.model).values() for part in parts) or ("\0",)
    for name, value in sorted(model.model.state_dict().items()):
        if not name.startswith(training):
            value = value.detach().cpu().contiguous()
            digest.update(repr((name, value.dtype, tuple(value.shape))).encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    inputs = {key: value for key, value in sorted(model.cfg.INPUT.items()) if "TEST" in key}
    digest.update(repr((inputs, model.cfg.MODEL.PIXEL_MEAN, model.cfg.MODEL.PIXEL_STD)).encode())
    return digest.hexdigest()


class _Job:
    """One output, its shards, and what they are made of."""

    def __init__(self, model: ReIDModel, source: ImageSource, output: Path, options: ExtractionOptions):
        self.model, self.source, self.output, self.options = model, source, output, options
        self.folder = output.with_name(f"{output.name}.parts")
        self.count = -(-len(source) // options.shard_size)
        self.settings = {
            "format": FORMAT,
            "model": model_fingerprint(model),
            "precision": str(model.dtype or torch.float32).removeprefix("torch."),
            "device": model.device.type,
            "batch_size": options.batch_size,
            "flip": options.flip,
            "half": options.half,
            "shard_size": options.shard_size,
            "on_bad_image": options.on_bad_image,
        }

    def prepare(self, overwrite: bool, restart: bool) -> list[int]:
        """Look at what there is; returns the numbers of the shards that are still to be made."""
        if restart:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.output.exists() and not overwrite and not self.folder.exists():
            raise FileExistsError(f"{self.output} exists already. Name another file, or replace it by --overwrite.")
        plan = self.folder / _PLAN
        if plan.is_file():
            self._check_settings(plan)
        else:
            write_atomically(plan, json.dumps(self.settings, indent=1).encode())
        remove_left_overs(self.folder)
        todo, changed = [], []
        for number in range(self.count):
            path = self.shard(number)
            if not path.is_file():
                todo.append(number)
            elif ParquetFeatures(path).metadata.get("digest") != self.source.digest(self.rows(number)):
                todo.append(number)
                changed.append(number)
        if changed:
            get_logger().warning(
                "The images of %d of the %d finished shards have changed since; their features are made anew.",
                len(changed),
                self.count - len(todo) + len(changed),
            )
        if len(todo) < self.count:
            get_logger().info("Going on: %d of %d shards are there.", self.count - len(todo), self.count)
        return todo

    def run(self, numbers: list[int], progress: bool | None) -> None:
        """Make these shards."""
        total = sum(len(self.rows(number)) for number in numbers)
        shown = (None if progress is None else not progress) if comm.is_main() else True
        began = told = time.monotonic()
        done = 0
        with tqdm(total=total, desc="encoding", unit="image", disable=shown) as bar:
            for number in numbers:
                rows = self.rows(number)
                columns, reasons = self._encode(rows, bar)
                metadata = {"digest": self.source.digest(rows), "skipped": reasons}
                write_features(self.shard(number), FeatureColumns(columns, metadata))
                done += len(rows)
                now = time.monotonic()
                if bar.disable and now - told > _LOG_PERIOD:
                    told = now
                    get_logger().info("%d of %d images, %.1f a second", done, total, done / (now - began))

    def merge(self) -> ExtractionReport:
        """Write the output from all shards, then remove them."""
        shards = [ParquetFeatures(self.shard(number)) for number in range(self.count)]
        skipped = [reason for shard in shards for reason in shard.metadata["skipped"]]
        table = _Shards([shard for shard in shards if shard.count], self._metadata())
        if not table.count:
            raise ValueError(f"None of the {len(skipped)} images can be encoded, the first because: {skipped[0]}")
        listing = self.output.with_name(f"{self.output.name}.skipped.txt")
        listing.unlink(missing_ok=True)
        if skipped:
            write_atomically(listing, ("\n".join(skipped) + "\n").encode())
            shown = "\n".join([f"  {reason}" for reason in skipped[:_SHOWN]] + ["  ..."] * (len(skipped) > _SHOWN))
            get_logger().warning(
                "%d of %d images were skipped, as they cannot be encoded; %s lists them:\n%s",
                len(skipped),
                len(self.source),
                listing,
                shown,
            )
        write_features(self.output, table)
        shutil.rmtree(self.folder)
        return ExtractionReport(table.count, skipped, table.width)

    def rows(self, number: int) -> np.ndarray:
        first = number * self.options.shard_size
        return np.arange(first, min(first + self.options.shard_size, len(self.source)))

    def shard(self, number: int) -> Path:
        return self.folder / f"{number:08d}.parquet"

    def _encode(self, rows: np.ndarray, bar: tqdm) -> tuple[dict[str, Column], list[str]]:
        """The columns of these rows, and a sentence for each image that was left out."""
        reasons: dict[int, str] = {}
        try:
            features = self._features(rows, bar)
        except (OSError, ValueError):
            if self.options.on_bad_image == "raise":
                raise
            reasons = self.source.refused(rows, self.options.num_workers)
            if not reasons:
                raise
            rows = np.setdiff1d(rows, list(reasons))
            features = self._features(rows, None) if len(rows) else np.zeros((0, 1), dtype=np.float32)
        columns = self.source.columns(rows)
        columns[FEATURE] = features.astype(np.float16) if self.options.half else features
        return columns, list(reasons.values())

    def _features(self, rows: np.ndarray, bar: tqdm | None) -> np.ndarray:
        options = self.options
        features = self.model.encode(
            _counted(self.source.images(rows), bar),
            batch_size=options.batch_size,
            flip=options.flip,
            num_workers=options.num_workers,
            progress=False,
        )
        if len(features) != len(rows):
            raise ValueError(f"{len(rows)} rows gave {len(features)} features: a path of the list names a folder.")
        return features

    def _check_settings(self, plan: Path) -> None:
        try:
            former = json.loads(plan.read_bytes())
            differing = [name for name in self.settings if former[name] != self.settings[name]]
        except (ValueError, KeyError, TypeError):
            differing = ["format"]
        if differing:
            raise ValueError(
                f"{self.folder} holds the beginning of a run with other settings ({', '.join(differing)}). Repeat its "
                "settings to go on with it, or begin anew by --restart."
            )

    def _metadata(self) -> dict[str, Any]:
        """Of the output: nothing in it tells how it came about, so that all ways give the same file."""
        kept = ("format", "model", "precision", "flip")
        return {name: self.settings[name] for name in kept} | {"unit_length": True}


class _Shards(FeatureTable):
    """Shards one after the other."""

    def __init__(self, shards: list[FeatureTable], metadata: dict[str, Any]):
        self._shards, self.metadata = shards, metadata
        self.count = sum(shard.count for shard in shards)
        if shards:
            first = shards[0]
            self.found, self.types, self.width, self.dtype = first.found, first.types, first.width, first.dtype

    def blocks(self, names: Collection[str]) -> Iterator[dict[str, Column]]:
        for shard in self._shards:
            yield from shard.blocks(names)


def _counted(images: Iterator[Any], bar: tqdm | None) -> Iterator[Any]:
    for image in images:
        yield image
        if bar is not None:
            bar.update(1)
