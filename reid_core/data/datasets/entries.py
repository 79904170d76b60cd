"""The entries of DATASETS.TRAIN and DATASETS.TEST: a registered dataset, or `Reader:path` for a user's own data."""

from collections.abc import Sequence
from typing import Any

from reid_core.config import ConfigError
from reid_core.data.datasets.base import ReIDDataset
from reid_core.data.datasets.own_data import OwnDataset
from reid_core.registry import DATASET_REGISTRY


def dataset_name(entry: str) -> str:
    """The name of an entry's dataset: "Market1501" of itself, "crops" of "Manifest:shop/crops.csv".

    Raises UnknownNameError for a reader that is not registered, ConfigError for one that misses its path or takes none.
    """
    reader, path = _parse(entry)
    return reader.name_of(path) if path else entry


def dataset_kind(cfg: Any, entry: str) -> str:
    """What an entry's dataset shows, "person" or "vehicle", without reading it."""
    reader, path = _parse(entry)
    return cfg.DATASETS.OWN_DATA.KIND if path else reader.kind


def build_dataset(cfg: Any, entry: str) -> ReIDDataset:
    """Read an entry's dataset from DATASETS.ROOT, or from where its path says."""
    reader, path = _parse(entry)
    return reader(**reader.from_config(cfg, path)) if path else reader(**reader.from_config(cfg))


def require_splits(dataset: ReIDDataset, splits: Sequence[str], key: str) -> None:
    """Raise ConfigError if the dataset has no images in one of the splits, which the config's `key` asks for."""
    missing = [split for split in splits if not len(getattr(dataset, split))]
    if missing:
        raise ConfigError(
            f"{dataset.name} has no {' and no '.join(missing)} images, which {key} needs. Add them, or take it out of "
            f"{key}."
        )


def _parse(entry: str) -> tuple[Any, str]:
    """An entry's reader, and its path, "" for a registered dataset."""
    name, colon, path = entry.partition(":")
    reader = DATASET_REGISTRY.get(name)
    takes_path = isinstance(reader, type) and issubclass(reader, OwnDataset)
    if takes_path and not reader.name_of(path):
        raise ConfigError(f"'{entry}' in DATASETS needs a path below DATASETS.ROOT, such as '{name}:shop'.")
    if colon and not takes_path:
        raise ConfigError(f"'{entry}' in DATASETS: {name} takes no path, it is found below DATASETS.ROOT by itself.")
    return reader, path
