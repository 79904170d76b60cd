"""Converting another program's weights file into a checkpoint of this toolkit, or into CLIP weights to start from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save

from reid_core.config import CfgNode, ConfigError
from reid_core.data.datasets import build_dataset, dataset_name
from reid_core.data.training_set import TrainingSet
from reid_core.modeling.checkpoint import model_parts, save_checkpoint
from reid_core.modeling.clip import load_clip_weights
from reid_core.modeling.clip.weights import read_state_dict
from reid_core.modeling.conversion import (
    ConversionError,
    Converter,
    Entry,
    Sizes,
    load_converted,
    read_source,
    rename,
)
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.modeling.trained import without_pretrained
from reid_core.registry import CONVERTER_REGISTRY
from reid_core.utils.file_io import write_atomically
from reid_core.utils.logging import get_logger


@dataclass
class ConversionReport:
    """What became of every tensor. facts: lines about the whole. entries: a line for each name of both sides."""

    facts: list[str]
    entries: list[Entry]
    others: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The report as it is shown and written: facts, counts, a table."""
        taken = sum(1 for entry in self.entries if entry.source and entry.target)
        not_used = sum(1 for entry in self.entries if entry.source and not entry.target)
        own = sum(1 for entry in self.entries if not entry.source)
        counts = f"{taken} tensors taken over, {not_used} of the source not kept, {own} of ours not in the source"
        rows = [("source", "target", "shape", "note")]
        rows += [
            (entry.source or "-", entry.target or "-", str(list(entry.shape)), entry.note) for entry in self.entries
        ]
        rows += [(name, "-", "", f"not used: {what}") for name, what in self.others.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        table = ["  ".join([*(map(str.ljust, row[:3], widths)), row[3]]).rstrip() for row in rows]
        return "\n".join([*self.facts, counts, "", *table]) + "\n"


def convert_checkpoint(
    source: str | Path,
    output: str | Path,
    cfg: CfgNode,
    converter: str = "",
    num_cameras: int = 0,
    num_views: int = 0,
    use_training_data: bool = False,
    unsafe: bool = False,
    overwrite: bool = False,
    report_path: str | Path | None = None,
) -> ConversionReport:
    """Write a checkpoint with the weights of another program's file, its config beside it (.yaml), and a report.

    cfg: of the model that the weights belong to; sizes that the file tells (identities, cameras, patch stride ...) go
    before it. converter: a registered one, "" for that of MODEL.META_ARCHITECTURE. num_cameras, num_views: where the
    file does not tell them, 0 for unknown. use_training_data: read DATASETS.TRAIN and take its identities, in rising
    order, as those of the file; without, what belongs to identities is left out in training. unsafe: see `read_source`.
    report_path: None for the output's name with `.report.txt`.

    Raises FileExistsError for output that is there without `overwrite`, ConversionError for a file that cannot be read
    or does not fit, in every tensor; UnknownNameError for a method without converter. Nothing is written then.
    """
    source, output = Path(source).expanduser(), Path(output).expanduser()
    files = _output_files(source, output, report_path, overwrite, config=True)
    name = converter or cfg.MODEL.META_ARCHITECTURE
    rules: Converter = CONVERTER_REGISTRY.get(name)()
    weights = read_source(source, unsafe)
    training_set = _training_set(cfg) if use_training_data else None
    if training_set is not None:
        num_cameras, num_views = num_cameras or training_set.num_cameras, num_views or training_set.num_views
    sizes = rules.sizes(rename(rules, weights.tensors), cfg, num_cameras, num_views)
    data = _data_state(cfg, sizes, training_set)
    cfg = _fitted(cfg, sizes)
    with torch.random.fork_rng(devices=[]):
        model = build_model(without_pretrained(cfg), "cpu", sizes.num_identities, sizes.num_cameras, sizes.num_views)
    try:
        entries = load_converted(rules, weights.tensors, model)
    except ConversionError as error:
        raise ConversionError(
            f"{source} does not fit {_model_name(cfg)}: {error} Is the config that of the program and of the run that "
            "the file is from?"
        ) from error
    origin = {"file": source.name, "sha256": _digest(source), "converter": name}
    save_checkpoint(files.output, _content(cfg, model, data, origin))
    cfg.save(files.config)
    facts = [
        *_origin_facts(source, output, weights.prefix, origin),
        f"model: {_model_name(cfg)}; {sizes.num_identities} identities, {sizes.num_cameras} cameras, "
        f"{sizes.num_views} viewpoints",
        *(f"config: {key} {value!r}: {why}" for key, (value, why) in sizes.changes.items()),
    ]
    return _written(ConversionReport(facts, entries, weights.others), files.report)


def convert_clip_weights(
    source: str | Path, output: str | Path, cfg: CfgNode, overwrite: bool = False, report_path: str | Path | None = None
) -> ConversionReport:
    """Write a CLIP's weights as a safetensors file for MODEL.BACKBONE.PRETRAINED: checked against
    MODEL.BACKBONE.ARCHITECTURE, float32, under OpenAI's names.

    source: OpenAI's TorchScript archive, an open_clip state dict, or safetensors, none of which is run. Raises
    FileExistsError, FileNotFoundError, ConversionError, and ValueError as `load_clip_weights`.
    """
    source, output = Path(source).expanduser(), Path(output).expanduser()
    if output.suffix != ".safetensors":
        raise ConversionError(f"CLIP weights are written as safetensors: name the output {output.stem}.safetensors.")
    if not source.is_file():
        raise FileNotFoundError(f"There is no weights file {source} (working folder: {Path.cwd()}).")
    files = _output_files(source, output, report_path, overwrite, config=False)
    architecture = cfg.MODEL.BACKBONE.ARCHITECTURE
    state = load_clip_weights(str(source), architecture)
    entries = []
    for name, value in sorted(read_state_dict(source).items()):
        short = name.removeprefix("module.").removeprefix("text.")
        target = next((ours for ours in (short, f"visual.{short}") if ours in state), "")
        note = "" if target else "not used: a mask or a number that is no weight"
        entries.append(Entry(name, target, tuple(value.shape), note))
    write_atomically(files.output, save({name: value.contiguous() for name, value in state.items()}))
    origin = {"file": source.name, "sha256": _digest(source), "converter": "clip"}
    facts = [*_origin_facts(source, output, "", origin), f"architecture: {architecture}, float32"]
    return _written(ConversionReport(facts, entries), files.report)


@dataclass(frozen=True)
class _Files:
    output: Path
    report: Path
    config: Path


def _output_files(source: Path, output: Path, report_path: str | Path | None, overwrite: bool, config: bool) -> _Files:
    """What will be written. Raises FileExistsError for what is there and may not be replaced."""
    report = Path(report_path).expanduser() if report_path else output.with_suffix(".report.txt")
    files = _Files(output, report, output.with_suffix(".yaml"))
    written = [files.output, files.report, *([files.config] if config else [])]
    if len(set(written)) < len(written):
        raise ConfigError(f"Output, report and config would be one file: {', '.join(map(str, written))}.")
    for path in written:
        if path.is_dir():
            raise FileExistsError(f"{path} is a folder; name a file to write.")
        if path.exists() and source.exists() and path.samefile(source):
            raise FileExistsError(f"{path} is the source itself; choose another name for the output.")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; choose another name, or replace it with --overwrite.")
    return files


def _training_set(cfg: CfgNode) -> TrainingSet:
    return TrainingSet([build_dataset(cfg, entry) for entry in cfg.DATASETS.TRAIN], cfg.DATASETS.USE_LABELS)


def _data_state(cfg: CfgNode, sizes: Sizes, training_set: TrainingSet | None) -> dict:
    """What a checkpoint says about its training set. Raises ConfigError for data that the weights are not of."""
    own = {"num_cameras": sizes.num_cameras, "num_views": sizes.num_views}
    if training_set is not None:
        known = training_set.num_identities
        if sizes.num_identities not in (0, known):
            raise ConfigError(
                f"DATASETS.TRAIN {cfg.DATASETS.TRAIN} has {known} identities, the source {sizes.num_identities}: it "
                "was trained on other data. Name that, or leave --training-data out."
            )
        return {**training_set.state(), **own}
    names = _names(cfg.DATASETS.TRAIN)
    if len(names) != 1:
        raise ConfigError(
            f"DATASETS.TRAIN names {len(names)} datasets ({', '.join(names) or 'none'}); name the one that the source "
            "was trained on (where its cameras begin is not in the file), or use --training-data."
        )
    # Rows of unknown identities match those of no training set: nobody starts from a wrong identity's row by accident.
    label_map = [f"{names[0]}:row {row} of the source" for row in range(sizes.num_identities)]
    return {"label_map": label_map, **own, "camera_offsets": {names[0]: 0}}


def _names(entries: Sequence[str]) -> list[str]:
    return [dataset_name(entry) for entry in entries]


def _fitted(cfg: CfgNode, sizes: Sizes) -> CfgNode:
    """A copy of the config with what the source says."""
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = ""
    for key, (value, why) in sizes.changes.items():
        get_logger().warning("%s is %r now, was %r: %s.", key, value, cfg.value_of(key), why)
        parent, _, leaf = key.rpartition(".")
        cfg.value_of(parent)[leaf] = value
    return cfg


def _content(cfg: CfgNode, model: MetaArchitecture, data: dict, origin: dict[str, str]) -> dict:
    """What a checkpoint holds when nothing of a run is in it."""
    return {
        "model": model.state_dict(),
        "architecture": _model_name(cfg),
        "config": cfg.dump(),
        "data": data,
        "parts": model_parts(model),
        "results": {},
        "converted_from": origin,
    }


def _model_name(cfg: CfgNode) -> str:
    return f"{cfg.MODEL.META_ARCHITECTURE} on {cfg.MODEL.BACKBONE.ARCHITECTURE}"


def _origin_facts(source: Path, output: Path, prefix: str, origin: dict[str, str]) -> list[str]:
    stripped = f', "{prefix}" taken from before every name' if prefix else ""
    return [
        f"{source} -> {output}",
        f"source: sha256 {origin['sha256']}{stripped}",
        f"converter: {origin['converter']}",
    ]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _written(report: ConversionReport, path: Path) -> ConversionReport:
    write_atomically(path, report.text().encode())
    return report
