"""The main job from nothing: render a dataset, train on it, and show what was gained, beside a classical baseline."""

import time
from pathlib import Path

import reid_core.engine.default_trainer  # noqa: F401  (registers the usual trainer)
from reid_core.config import CfgNode, ConfigError
from reid_core.data.loader import build_test_loader
from reid_core.data.rendering import RenderingOptions, render_dataset
from reid_core.engine.encoding import encode
from reid_core.engine.hooks.checkpoint import BEST
from reid_core.engine.test_sets import flatten_results
from reid_core.evaluation import (
    ReIDEvaluator,
    build_evaluator,
    results_table,
    sample_distances,
    save_results,
    write_report,
)
from reid_core.evaluation.color_histogram import color_histogram_features
from reid_core.modeling.checkpoint import list_checkpoints
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.projects import load_config
from reid_core.registry import TRAINER_REGISTRY
from reid_core.utils.logging import get_logger
from reid_core.utils.writers import read_json_lines

LAYOUTS = {
    "Market1501": "market1501",
    "MSMT17": "msmt17_v1",
    "MSMT17V2": "msmt17_v2",
    "DukeMTMC": "dukemtmc",
    "OccludedDuke": "occluded_duke",
    "VeRi776": "veri776",
    "VehicleID": "vehicleid",
    "VehicleID1600": "vehicleid",
    "VehicleID2400": "vehicleid",
    "VERIWild": "veri_wild",
    "VERIWild5000": "veri_wild",
    "VERIWild10000": "veri_wild",
}
"""Registered datasets that the demo can render; CUHK03 is none of them, for its two cameras are too few (SIZE)."""

# Enough to learn from in minutes on two cores; the difficulty is the renderer's own, fixed against the histogram.
SIZE = {
    "test_identities": 60,
    "cameras": 6,
    "cameras_per_identity": 4,
    "distractors": 60,
}
TOP_K = 25
SOURCE_SEED = 1000  # added to the seed of the source's data


def render_data(cfg: CfgNode, root: Path, seed: int) -> None:
    """Render the config's datasets below `root`, at its input size. Raises ConfigError for one without a layout."""
    for name in dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]):
        if name not in LAYOUTS:
            raise ConfigError(f"The demo cannot render '{name}'; it renders {', '.join(LAYOUTS)}.")
        height, width = cfg.INPUT.SIZE_TRAIN
        options = RenderingOptions(
            layout=LAYOUTS[name],
            height=height,
            width=width,
            seed=seed,
            train_identities=cfg.DEMO.TRAIN_IDENTITIES,
            images_per_camera=cfg.DEMO.IMAGES_PER_CAMERA,
            **SIZE,
        )
        began = time.perf_counter()
        folder = render_dataset(root, options, workers=2, overwrite=True)
        get_logger().info(f"Rendered data for {name} in {folder} ({time.perf_counter() - began:.0f} s).")


def run_demo(cfg: CfgNode, seed: int = 0) -> dict[str, dict[str, float]]:
    """Render, evaluate the histogram and the untrained model, train, evaluate; results in percent by model.

    Renders to `<OUTPUT_DIR>/data-<seed>-<size>` unless it is there already, removes an earlier demo's checkpoints, and
    writes metrics.json and report.html to OUTPUT_DIR. cfg: its DATASETS.ROOT is replaced. With DEMO.SOURCE another
    demo comes first, in `<OUTPUT_DIR>/source`, on data of another seed: other persons before other cameras; its model
    is what training starts from.
    """
    if not cfg.DATASETS.TEST:
        raise ConfigError("The demo shows what was gained on a test set; DATASETS.TEST is empty.")
    folder = Path(cfg.OUTPUT_DIR)
    cfg = cfg.clone()
    before = "untrained"
    if cfg.DEMO.SOURCE:
        before, cfg.MODEL.WEIGHTS = "source", str(_train_source(cfg, seed))
    height, width = cfg.INPUT.SIZE_TRAIN
    root = folder / f"data-{seed}-{height}x{width}"
    for path in [*list_checkpoints(folder), folder / BEST]:
        path.unlink(missing_ok=True)  # of an earlier demo: this one starts from the beginning
    render_data(cfg, root, seed)
    cfg.DATASETS.ROOT = str(root)
    cfg.save(folder / "config.yaml")
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER)(cfg)
    name, dataset = next(iter(trainer.test_sets.datasets.items()))
    evaluator = build_evaluator(cfg, dataset)
    rows = {"colour histogram": _histogram_scores(evaluator, dataset)}
    rows[before] = _scalars(evaluator.evaluate(*_features(cfg, trainer.model, dataset)))
    began = time.perf_counter()
    try:
        trainer.train()
    finally:
        trainer.close()
    seconds = time.perf_counter() - began
    rows["trained"] = _scalars(trainer.results[name])
    save_results(folder / "metrics.json", {**rows, "training_seconds": seconds, "seed": seed})
    _write_report(cfg, trainer.model, dataset, evaluator, rows, folder, seconds)
    get_logger().info("\n%s\n", results_table(rows, label="model"))
    get_logger().info(f"Trained in {seconds:.0f} s. Report: {folder / 'report.html'}")
    return rows


def _train_source(cfg: CfgNode, seed: int) -> Path:
    """The checkpoint of the demo of DEMO.SOURCE, which is run with another seed."""
    folder = Path(cfg.OUTPUT_DIR) / "source"
    source = load_config(cfg.DEMO.SOURCE, ["OUTPUT_DIR", str(folder), "SEED", str(cfg.SEED), "DEVICE", cfg.DEVICE])
    if source.DEMO.SOURCE:
        raise ConfigError(f"DEMO.SOURCE {cfg.DEMO.SOURCE} has a DEMO.SOURCE of its own; one is enough.")
    get_logger().info(f"Training on the source first: {cfg.DEMO.SOURCE}.")
    run_demo(source, seed + SOURCE_SEED)
    return list_checkpoints(folder)[-1]


def _histogram_scores(evaluator: ReIDEvaluator, dataset: object) -> dict[str, float]:
    features = [color_histogram_features(record.path for record in split) for split in (dataset.query, dataset.gallery)]
    return _scalars(evaluator.evaluate(*features))


def _features(cfg: CfgNode, model: MetaArchitecture, dataset: object) -> list:
    return [encode(model, build_test_loader(cfg, split)) for split in (dataset.query, dataset.gallery)]


def _scalars(results: dict) -> dict[str, float]:
    return flatten_results({"dataset": results})


def _write_report(
    cfg: CfgNode,
    model: MetaArchitecture,
    dataset: object,
    evaluator: ReIDEvaluator,
    rows: dict[str, dict[str, float]],
    folder: Path,
    seconds: float,
) -> None:
    query, gallery = _features(cfg, model, dataset)
    pids, camids = (
        [[getattr(record, field) for record in split] for split in (dataset.query, dataset.gallery)]
        for field in ("pid", "camid")
    )
    settings = {
        "model": cfg.MODEL.META_ARCHITECTURE,
        "architecture": Path(cfg.MODEL.BACKBONE.ARCHITECTURE).name,
        "starting weights": cfg.MODEL.WEIGHTS or cfg.MODEL.BACKBONE.PRETRAINED or "random",
        "data": "rendered, see reid_core/data/rendering",
        "epochs": cfg.SOLVER.MAX_EPOCHS,
        "batch": f"{cfg.DATALOADER.BATCH_SIZE} images, {cfg.DATALOADER.NUM_INSTANCES} of each identity",
        "training time": f"{seconds:.0f} s",
    }
    write_report(
        folder / "report.html",
        f"{cfg.MODEL.META_ARCHITECTURE} on rendered {dataset.name}",
        rows,
        read_json_lines(folder / "metrics.jsonl"),
        evaluator.rank(query, gallery, top_k=TOP_K),
        dataset.query,
        dataset.gallery,
        sample_distances(query, gallery, *pids, *camids, metric=cfg.TEST.METRIC, normalize=cfg.TEST.NORMALIZE_FEATURES),
        settings,
        metric=cfg.TEST.METRIC,
    )
