"""The gallery's features: encoded once, kept on the disk under a fingerprint of the model and of the image files."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from reid_core.data.image_table import ImageTable
from reid_core.inference.model import ReIDModel
from reid_core.inference.search_page.collection import Collection
from reid_core.retrieval import GalleryIndex
from reid_core.retrieval.gallery_files import GalleryIndexError
from reid_core.utils.logging import get_logger

_FORMAT = "search page 1"
_FIRST_SAVE = 2048  # images; each further save comes after half as many again, so that all writes together stay linear


class SideInformation(NamedTuple):
    """Cameras and viewpoints in the model's own numbering, -1 for unknown; None where the model takes none."""

    camids: list[int] | None
    viewids: list[int] | None


def gallery_index(model: ReIDModel, collection: Collection, folder: str | Path) -> GalleryIndex:
    """The index of the gallery's features, ids are the images' numbers. Read from `folder` or encoded and saved there.

    What was encoded when a run was stopped is kept, and the next one goes on from there. A saved index that is damaged
    is made anew. Raises as `ReIDModel.encode` for an image that cannot be decoded, GalleryIndexError if the disk
    refuses.
    """
    table = collection.gallery
    place = Path(folder).expanduser() / _fingerprint(model, collection)
    index = _saved(place, len(table))
    done = len(index) if index is not None else 0
    if done < len(table):
        get_logger().info("Encoding %d images of %s into %s.", len(table) - done, collection.name, place)
    while done < len(table):
        upto = min(len(table), done + max(_FIRST_SAVE, done // 2))
        part = table[done:upto]
        features = encode_records(model, collection, part)
        if index is None:
            index = GalleryIndex(features.shape[1])
        index.add(features, np.arange(done, upto), part.camids)
        index.save(place)
        done = upto
    return index


def encode_records(model: ReIDModel, collection: Collection, table: ImageTable, num_workers: int = 4) -> np.ndarray:
    """Features of a table's images as the model's evaluation makes them, float32 [N, D] of unit length."""
    side = side_information(model, collection, table)
    return model.encode(list(table.paths), *side, flip=model.cfg.TEST.FLIP, num_workers=num_workers)


def side_information(model: ReIDModel, collection: Collection, table: ImageTable) -> SideInformation:
    """What a model with embeddings for cameras or viewpoints is told of a table's images; datasets that it was not
    trained on are unknown to it, as in an evaluation."""
    cameras, views = model.model.side_information
    offset = model.camera_offsets.get(collection.name)
    if offset is None:
        return SideInformation(None, None)
    camids = np.where(table.camids < 0, -1, table.camids + offset)
    return SideInformation(
        np.where(camids < cameras, camids, -1).tolist() if cameras else None,
        np.where(table.viewids < views, table.viewids, -1).tolist() if views else None,
    )


def _saved(place: Path, count: int) -> GalleryIndex | None:
    """The saved index if it holds the first images of the gallery, in whole or in part."""
    if not place.is_dir():
        return None
    try:
        index = GalleryIndex.load(place, memory_map=False)
        if len(index) <= count and np.array_equal(index.ids, np.arange(len(index))):
            return index
        reason = "it does not hold the first images of the gallery"
    except GalleryIndexError as error:
        reason = str(error)
    get_logger().warning("The saved features in %s are not used, the images are encoded again: %s", place, reason)
    return None


def _fingerprint(model: ReIDModel, collection: Collection) -> str:
    """Hexadecimal; changes with whatever the features depend on: weights, preparation, the files' sizes and times."""
    cfg = model.cfg
    digest = hashlib.sha256(_FORMAT.encode())
    settings = (cfg.MODEL.dump(), cfg.INPUT.dump(), cfg.TEST.FLIP, model.dtype, sorted(model.camera_offsets.items()))
    digest.update(repr((collection.name, settings)).encode())
    for name, value in sorted(model.model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    table = collection.gallery
    for path in table.paths:
        status = Path(path).stat()
        digest.update(f"{path}\0{status.st_size} {status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    for column in (table.camids, table.viewids):
        digest.update(column)
    return digest.hexdigest()[:32]
