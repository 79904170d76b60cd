"""Features of test sets that are kept from an evaluation for the next, in an .npz file."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from reid_core.data.datasets.listing import printable
from reid_core.data.image_table import ImageTable
from reid_core.utils.file_io import write_atomically

_SIDES = ("query", "gallery")


class EncodedSet(NamedTuple):
    """A test set's features, float32 [Q, D] and [G, D], and its records."""

    features: tuple[Tensor | np.ndarray, Tensor | np.ndarray]
    records: tuple[ImageTable, ImageTable]


def save_encoded(path: str | os.PathLike, sets: Mapping[str, EncodedSet], weights: str) -> None:
    """Write the features of test sets by name, with what tells whose they are; `weights`: the checkpoint's path."""
    arrays = {"weights": np.array(weights)}
    for name, encoded in sets.items():
        for side, features, records in zip(_SIDES, encoded.features, encoded.records, strict=True):
            arrays[f"{name}/{side}/features"] = np.asarray(features)
            arrays[f"{name}/{side}/pids"], arrays[f"{name}/{side}/camids"] = records.pids, records.camids
    write_atomically(Path(path).expanduser(), lambda file: np.savez(file, **arrays))


def read_encoded(
    path: str | os.PathLike, records: Mapping[str, tuple[ImageTable, ImageTable]]
) -> tuple[dict[str, EncodedSet], str]:
    """What `save_encoded` wrote for the test sets of these names and records, and the weights that it is of.

    Raises FileNotFoundError, and ValueError for a file of other sets, or of a set with other images.
    """
    path = Path(path).expanduser()
    arrays, sets = _read_arrays(path), {}
    for name, sides in records.items():
        features = []
        for side, table in zip(_SIDES, sides, strict=True):
            found = [arrays.get(f"{name}/{side}/{column}") for column in ("features", "pids", "camids")]
            if any(array is None for array in found):
                held = sorted({key.split("/")[0] for key in arrays if "/" in key})
                raise ValueError(
                    f"{printable(path)} holds no features of {name}, but of {', '.join(held) or 'no test set'}; write "
                    "it with --save-features."
                )
            if not (np.array_equal(found[1], table.pids) and np.array_equal(found[2], table.camids)):
                raise ValueError(
                    f"{printable(path)} was made from another {name}: its {len(found[1])} {side} images are not the "
                    f"{len(table)} that are there now. Encode them again (without --features)."
                )
            features.append(found[0])
        sets[name] = EncodedSet((features[0], features[1]), sides)
    return sets, str(arrays.get("weights", ""))


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"{printable(path)} does not exist: name an .npz file of features.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file.items())
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"{printable(path)} is no .npz file of plain arrays: {error}") from error
