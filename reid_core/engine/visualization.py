"""Reports with pictures: of a checkpoint on the test sets of its config, and of features made elsewhere."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from reid_core.config import CfgNode, ConfigError
from reid_core.data.datasets import ReIDDataset
from reid_core.data.datasets.listing import printable
from reid_core.data.images import read_image
from reid_core.data.transforms import Resize
from reid_core.engine.evaluate_only import model_with_test_sets
from reid_core.engine.saliency import GRAD_CAM, saliency_maps
from reid_core.engine.test_sets import TestSets, build_datasets, flatten_results
from reid_core.evaluation import ReIDEvaluator, build_evaluator
from reid_core.evaluation.attention_figure import attention_figure
from reid_core.evaluation.encoded_sets import EncodedSet, read_encoded, save_encoded
from reid_core.evaluation.labelled_features import read_query_and_gallery
from reid_core.evaluation.visual_report import (
    ROOM_FOR_IGNORED,
    Attention,
    Evaluation,
    ReportOptions,
    write_visual_report,
)
from reid_core.modeling.checkpoint import read_checkpoint
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.projects import load_config
from reid_core.utils.logging import get_logger
from reid_core.utils.seed import seed_everything
from reid_core.utils.writers import read_json_lines

ATTENTION_QUERIES = 3
"""Queries of the best, and of the worst, whose attention is shown."""


def config_for_report(config_file: str | Path | None, overrides: Sequence[str]) -> CfgNode:
    """The config, without a file the config.yaml beside the checkpoint MODEL.WEIGHTS of the overrides.

    Raises ConfigError where there is none, and for an ensemble, which is no one model.
    """
    if config_file is None:
        weights = dict(zip(overrides[::2], overrides[1::2], strict=False)).get("MODEL.WEIGHTS", "")
        config_file = Path(weights).expanduser().parent / "config.yaml"
        if not weights:
            raise ConfigError("Name the checkpoint by MODEL.WEIGHTS output/run/best.pt, or a config by --config-file.")
        read_checkpoint(weights)  # says what is wrong with it before a config is asked for
        if not config_file.is_file():
            raise ConfigError(f"There is no {printable(config_file)} for {printable(weights)}; add --config-file.")
    cfg = load_config(config_file, list(overrides))
    if cfg.TEST.ENSEMBLE_WEIGHTS:
        raise ConfigError("TEST.ENSEMBLE_WEIGHTS: a report shows one model; leave them out.")
    return cfg


def report_evaluation(
    cfg: CfgNode,
    output: Path | None = None,
    options: ReportOptions | None = None,
    save_features: Path | None = None,
    features: Path | None = None,
) -> list[Path]:
    """Evaluate MODEL.WEIGHTS (or, without, the untrained model) on DATASETS.TEST; write a report for each test set.

    output: the folder, None for `<checkpoint>_report` beside the checkpoint; of several test sets each has a folder in
    it. save_features: write the features there; features: read them there instead of encoding. Returns the reports'
    paths. Raises what `evaluate_only` raises, and ValueError for features of another set.
    """
    options = options or ReportOptions()
    weights = Path(cfg.MODEL.WEIGHTS).expanduser() if cfg.MODEL.WEIGHTS else None
    if output is None:
        output = weights.with_name(f"{weights.stem}_report") if weights else Path(cfg.OUTPUT_DIR) / "report"
    seed_everything(cfg.SEED)
    datasets = build_datasets(cfg, cfg.DATASETS.TEST)
    if not datasets:
        raise ConfigError("DATASETS.TEST is empty: name the dataset to show.")
    model, sets = model_with_test_sets(cfg, datasets, cfg.MODEL.WEIGHTS)
    encoded = _features(cfg, sets, model, features)
    if save_features:
        save_encoded(save_features, encoded, cfg.MODEL.WEIGHTS)
        get_logger().info("Features written to %s.", printable(save_features))
    history = read_json_lines(weights.parent / "metrics.jsonl") if weights else []
    reports = []
    for name, found in encoded.items():
        evaluation = _evaluation(cfg, datasets[name], found, options)
        title = f"{cfg.MODEL.META_ARCHITECTURE} on {name}"
        rows = {
            f"{weights.absolute().parent.name}/{weights.name}" if weights else "untrained": flatten_results(
                {name: _scores(cfg, datasets[name], found)}
            )
        }
        settings = _settings(cfg, features)
        attention = _attention(cfg, sets, model, evaluation)
        folder = Path(output) / name if len(encoded) > 1 else Path(output)
        reports.append(write_visual_report(folder, title, evaluation, rows, history, settings, attention, options))
    return reports


def report_features(
    query: Path,
    gallery: Path,
    output: Path,
    metric: str = "euclidean",
    normalize: bool = True,
    options: ReportOptions | None = None,
) -> Path:
    """A report of features made elsewhere (see `read_query_and_gallery`); returns its path.

    Where an image's camera is unknown, or if all images are of one camera, no image is left out of a ranking. Raises
    ValueError for features that cannot be scored.
    """
    options = options or ReportOptions()
    sides = read_query_and_gallery(query, gallery)
    names_cameras = all(side.names_cameras for side in sides)
    camids = np.concatenate([side.records.camids for side in sides])
    several = names_cameras and len(np.unique(camids)) > 1
    if not several:
        get_logger().warning("No two cameras are named: no image is left out of a ranking.")
    name, records, features = "features", [side.records for side in sides], [side.features for side in sides]
    evaluator = ReIDEvaluator(
        name, *records, metric=metric, normalize=normalize, camera_rule=several, camera_pairs=several
    )
    results = evaluator.rank(*features, top_k=options.length + ROOM_FOR_IGNORED)
    evaluation = Evaluation(
        name,
        *records,
        *features,
        results,
        metric,
        normalize,
        camera_rule=several,
        names_cameras=names_cameras,
        has_pictures=all("path" in side.columns for side in sides),
    )
    files = {"query": printable(query), "gallery": printable(gallery)}
    settings = {**files, "metric": metric, "rows of unit length": normalize}
    title = f"Features of {Path(query).name} against {Path(gallery).name}"
    rows = {name: results.percentages(evaluator.cmc_ranks)}
    return write_visual_report(Path(output), title, evaluation, rows, (), settings, options=options)


def _features(cfg: CfgNode, sets: TestSets, model: MetaArchitecture, features: Path | None) -> dict[str, EncodedSet]:
    records = {name: (dataset.query, dataset.gallery) for name, dataset in sets.datasets.items()}
    if features is None:
        return {name: EncodedSet(tuple(sets.encode(model, name)), sides) for name, sides in records.items()}
    encoded, weights = read_encoded(features, records)
    if weights != cfg.MODEL.WEIGHTS:
        get_logger().warning(
            "%s holds features of %s, not of MODEL.WEIGHTS.", printable(features), weights or "no model"
        )
    return encoded


def _evaluation(cfg: CfgNode, dataset: ReIDDataset, encoded: EncodedSet, options: ReportOptions) -> Evaluation:
    cameras = np.unique(np.concatenate([side.camids for side in encoded.records]))
    cfg = cfg.clone()
    cfg.TEST.CAMERA_PAIRS = dataset.names_cameras and len(cameras) > 1
    evaluator = build_evaluator(cfg, dataset)
    return Evaluation(
        dataset.name,
        *encoded.records,
        *encoded.features,
        evaluator.rank(*encoded.features, top_k=options.length + ROOM_FOR_IGNORED),
        evaluator.metric,
        evaluator.normalize,
        evaluator.camera_rule,
        dataset.names_cameras,
    )


def _scores(cfg: CfgNode, dataset: ReIDDataset, encoded: EncodedSet) -> dict:
    """The table's numbers, by the dataset's own protocol."""
    cfg = cfg.clone()
    cfg.TEST.CAMERA_PAIRS = False  # drawn instead
    return build_evaluator(cfg, dataset).evaluate(*encoded.features)


def _attention(cfg: CfgNode, sets: TestSets, model: MetaArchitecture, evaluation: Evaluation) -> Attention | str:
    """The picture, or why there is none. Of the queries that the ranked lists show: the best, then the worst."""
    parts = dict(zip(("Best queries", "Worst queries"), evaluation.best_and_worst(ATTENTION_QUERIES), strict=True))
    positions = [position for part in parts.values() for position in part]
    records = [evaluation.query[position] for position in positions]
    try:
        columns = saliency_maps(model, sets.batches(evaluation.name, records))
    except ValueError as error:
        return str(error)
    resize = Resize(cfg.INPUT.SIZE_TEST, cfg.INPUT.INTERPOLATION_TEST)
    pixels = torch.stack([resize(read_image(record.path)) for record in records])
    precision = evaluation.results.per_query.average_precision
    names = [
        f"id {record.pid}, AP {100 * precision[position]:.0f} %"
        for position, record in zip(positions, records, strict=True)
    ]
    caption = "share in the feature's length, or attention" if GRAD_CAM in columns else "attention"

    def draw(rows: slice) -> bytes:
        return attention_figure(pixels[rows], {key: maps[rows] for key, maps in columns.items()}, names[rows], caption)

    middle = len(parts["Best queries"])
    pages = zip(parts, (slice(0, middle), slice(middle, len(positions))), strict=True)
    return Attention(draw(slice(None)), {heading: draw(rows) for heading, rows in pages if parts[heading]})


def _settings(cfg: CfgNode, features: Path | None) -> dict[str, str]:
    settings = {
        "model": cfg.MODEL.META_ARCHITECTURE,
        "architecture": Path(cfg.MODEL.BACKBONE.ARCHITECTURE).name,
        "weights": cfg.MODEL.WEIGHTS or "untrained",
        "input": f"{cfg.INPUT.SIZE_TEST[0]} x {cfg.INPUT.SIZE_TEST[1]} pixels",
        "distance": cfg.TEST.METRIC + (", features of unit length" if cfg.TEST.NORMALIZE_FEATURES else ""),
    }
    return settings | ({"features": printable(features)} if features else {})
