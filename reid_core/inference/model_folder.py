"""The self-contained model folder: weights, config, results and a model card; loading it needs nothing else.

model.safetensors   what the test features need; its metadata: numbers of cameras and viewpoints
config.yml          the resolved config that it was trained with, without paths of the machine
architecture.json   only of a CLIP that is not one of open_clip's
metrics.json        the results that the checkpoint knows, percent
README.md           the model card, in the Hugging Face hub's format
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from reid_core.config import CfgNode, get_cfg
from reid_core.data.datasets import dataset_name
from reid_core.evaluation import save_results
from reid_core.inference.building import build_from_content
from reid_core.inference.model_card import model_card
from reid_core.modeling.checkpoint import CheckpointError, model_parts, read_checkpoint
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.utils.file_io import atomic_folder, write_atomically

FORMAT = "reid-core model 1"
WEIGHTS, CONFIG, ARCHITECTURE, METRICS, CARD = (
    "model.safetensors",
    "config.yml",
    "architecture.json",
    "metrics.json",
    "README.md",
)
FILES = (WEIGHTS, CONFIG, ARCHITECTURE, METRICS, CARD)
_DATA_KEYS = ("num_cameras", "num_views", "camera_offsets")


def save_model_folder(
    checkpoint: str | Path,
    folder: str | Path,
    projects: Sequence[str | Path] = (),
    name: str | None = None,
    license: str | None = None,
) -> Path:
    """Write a checkpoint as a model folder, whole or not at all; an earlier one there is replaced.

    projects: as in `load`. name: the model's in its card; None: the folder's. license: an identifier of the hub
    ("apache-2.0"); None: the card says that it is open. Returns the folder.

    Raises CheckpointError and ConfigError as `load`, FileExistsError for a folder that holds anything else.
    """
    folder = Path(folder).expanduser()
    content = read_checkpoint(checkpoint)
    cfg, model = build_from_content(content, checkpoint, projects)
    _refuse_other_content(folder)
    results = results_by_dataset(content.get("results", {}), [dataset_name(entry) for entry in cfg.DATASETS.TEST])
    files = {
        WEIGHTS: _weights(model, content["data"]),
        CARD: model_card(cfg, results, name or folder.name, license).encode(),
    }
    architecture = Path(cfg.MODEL.BACKBONE.ARCHITECTURE)
    if architecture.suffix == ".json":
        files[ARCHITECTURE] = architecture.read_bytes()
    with atomic_folder(folder) as new:
        for file, bytes_ in files.items():
            write_atomically(new / file, bytes_)
        write_atomically(new / CONFIG, _portable(cfg).dump().encode())
        save_results(new / METRICS, results)
    return folder


def is_model_folder(path: Path) -> bool:
    """True for a folder with weights or config of a model folder; `read_model_folder` judges what is in them."""
    return path.is_dir() and any((path / file).is_file() for file in (WEIGHTS, CONFIG))


def require_model_folder(path: str | Path) -> Path:
    """The path of a folder that has what loading needs. Raises CheckpointError, naming what is missing."""
    path = Path(path).expanduser()
    missing = [file for file in (WEIGHTS, CONFIG) if not (path / file).is_file()]
    if missing:
        raise CheckpointError(f"{path} is no model folder: {' and '.join(missing)} missing. See save_model_folder.")
    return path


def read_model_folder(path: Path) -> dict:
    """Its model, config, data and results under a checkpoint's keys. Raises CheckpointError if it is damaged."""
    path = require_model_folder(path)
    try:
        with safe_open(path / WEIGHTS, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file, no dictionary
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path / WEIGHTS} is not a model of this toolkit (no '{FORMAT}' in it).")
        data = json.loads(metadata["data"])
        config = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
    except (SafetensorError, OSError, KeyError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"The model folder {path} is damaged: {error}. Pack or download it again.") from error
    backbone = config.get("MODEL", {}).get("BACKBONE", {}) if isinstance(config, dict) else {}
    if backbone.get("ARCHITECTURE") == ARCHITECTURE:
        backbone["ARCHITECTURE"] = str(path / ARCHITECTURE)
    return {"model": state, "data": data, "config": yaml.safe_dump(config), "architecture": metadata.get("model", "")}


def results_by_dataset(results: Mapping[str, float], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """A checkpoint's flat results (`flatten_results`), by dataset; the means over datasets are left out."""
    if len(names) == 1:
        return {names[0]: dict(results)} if results else {}
    tables: dict[str, dict[str, float]] = {}
    for key, value in results.items():
        dataset, _, metric = key.partition("/")
        if metric and dataset in names:
            tables.setdefault(dataset, {})[metric] = value
    return tables


def _weights(model: MetaArchitecture, data: Mapping) -> bytes:
    """A safetensors file of what the model needs for its features."""
    training = tuple(part for parts in model_parts(model).values() for part in parts) or ("\0",)
    state: dict[str, Tensor] = {
        name: value.contiguous().clone() for name, value in model.state_dict().items() if not name.startswith(training)
    }
    known = {key: data[key] for key in _DATA_KEYS if key in data}
    return save(state, {"format": FORMAT, "model": type(model).__name__, "data": json.dumps(known)})


def _portable(cfg: CfgNode) -> CfgNode:
    """The config without what belongs to one machine: folders become names, or the default."""
    cfg, usual = cfg.clone(), get_cfg()
    cfg.PROJECTS = [Path(folder).name for folder in cfg.PROJECTS]
    cfg.OUTPUT_DIR, cfg.DATASETS.ROOT, cfg.DATALOADER.CACHE_DIR = usual.OUTPUT_DIR, usual.DATASETS.ROOT, ""
    cfg.MODEL.WEIGHTS, cfg.TEST.ENSEMBLE_WEIGHTS, cfg.DEMO.SOURCE = "", [], ""
    cfg.MODEL.BACKBONE.PRETRAINED = Path(cfg.MODEL.BACKBONE.PRETRAINED).name
    if Path(cfg.MODEL.BACKBONE.ARCHITECTURE).suffix == ".json":
        cfg.MODEL.BACKBONE.ARCHITECTURE = ARCHITECTURE
    return cfg


def _refuse_other_content(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a folder for the model.")
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in FILES) if folder.is_dir() else []
    if others:
        raise FileExistsError(
            f"{folder} holds more than an earlier model folder ({', '.join(others[:5])}) and would be replaced; name a "
            "folder of its own."
        )
