#!/usr/bin/env python
"""Pictures of trained models: text features, image features, attention (arXiv 2407.20647, figures 1, 2 and 4).

  python projects/SVLL_ReID/figures.py text-tsne --checkpoint output/a/best.pt --checkpoint output/b/best.pt

Several checkpoints are drawn side by side. Config: the config.yaml beside each checkpoint. The functions take the
config of each model by the name of its panel; MODEL.WEIGHTS is the checkpoint.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core.config import CfgNode, ConfigError
from reid_core.data.images import read_image
from reid_core.data.transforms import Resize
from reid_core.engine.encoding import encode
from reid_core.engine.evaluate_only import model_with_test_sets
from reid_core.engine.launch import USER_ERRORS
from reid_core.engine.saliency import POOL, ROLLOUT, saliency_maps
from reid_core.engine.test_sets import build_datasets
from reid_core.engine.visualization import config_for_report
from reid_core.evaluation.attention_figure import attention_figure
from reid_core.evaluation.embedding_figure import EmbeddingFigure, embedding_figure
from reid_core.modeling.checkpoint import CheckpointError, read_checkpoint
from reid_core.modeling.trained import build_trained
from reid_core.structures import ReIDImage
from reid_core.utils.device import resolve_device
from reid_core.utils.file_io import write_atomically
from reid_core.utils.logging import get_logger, setup_logger
from reid_core.utils.seed import seed_everything

_TEXT_FEATURES, _PROMPTS = "text_features", "text.prompts.table"


def text_tsne(models: Mapping[str, CfgNode], identities: int | None = None, seed: int = 0) -> EmbeddingFigure:
    """Figure 1: one point for the text feature of each training identity, or of `identities` drawn by the seed."""
    if identities is not None and identities < 2:
        raise ConfigError(f"--identities {identities}: a t-SNE needs at least 2 points.")
    panels = {}
    for name, cfg in models.items():
        features = text_features(cfg)
        if identities is not None:
            features = features[torch.from_numpy(np.sort(_draw(np.arange(len(features)), identities, seed)))]
        panels[name] = (features, None)
    return embedding_figure(panels, "text features", seed)


def image_tsne(models: Mapping[str, CfgNode], identities: int = 20, images: int = 10, seed: int = 0) -> EmbeddingFigure:
    """Figure 2: test features of the same test images for every model, coloured by identity."""
    dataset, records = choose_images(next(iter(models.values())), identities, images, seed)
    labels = torch.tensor([record.pid for record in records])
    panels = {}
    for name, cfg in models.items():
        model, sets = model_with_test_sets(cfg, {dataset.name: dataset}, cfg.MODEL.WEIGHTS)
        panels[name] = (encode(model, sets.batches(dataset.name, records)), labels)
    return embedding_figure(panels, "image features", seed)


def attention(models: Mapping[str, CfgNode], identities: int = 6, images: int = 1, seed: int = 0) -> bytes:
    """Figure 4: test images and the attention of every model over them, of a ViT its rollout. Returns a PNG.

    Raises ValueError for a model whose backbone cannot tell its attention.
    """
    first = next(iter(models.values()))
    dataset, records = choose_images(first, identities, images, seed)
    columns = {}
    for name, cfg in models.items():
        model, sets = model_with_test_sets(cfg, {dataset.name: dataset}, cfg.MODEL.WEIGHTS)
        maps = saliency_maps(model, sets.batches(dataset.name, records))
        columns[name] = maps[ROLLOUT] if ROLLOUT in maps else maps[POOL]
    resize = Resize(first.INPUT.SIZE_TEST, first.INPUT.INTERPOLATION_TEST)
    pixels = torch.stack([resize(read_image(record.path)) for record in records])
    cameras = [f", camera {record.camid + 1}" if dataset.names_cameras else "" for record in records]
    names = [f"identity {record.pid}{camera}" for record, camera in zip(records, cameras, strict=True)]
    return attention_figure(pixels, columns, names, "attention rollout")


def text_features(cfg: CfgNode) -> Tensor:
    """Text features [C, D] of the training identities: those that the prompts of a checkpoint of stage 1 have so far,
    or those that one of stage 2 holds. Raises CheckpointError for one that has neither."""
    path = cfg.MODEL.WEIGHTS
    content = read_checkpoint(path)
    weights = content["model"]
    if _PROMPTS in weights:
        model = build_trained(cfg, content, path, resolve_device(cfg.DEVICE), num_identities=len(weights[_PROMPTS]))
        return model.eval().text.all_features().cpu()
    fixed = weights.get(_TEXT_FEATURES)
    if fixed is None or not fixed.any():
        raise CheckpointError(
            f"{path} ({content.get('architecture', 'another method')}) holds no text features: neither "
            f"'{_TEXT_FEATURES}' nor the prompts '{_PROMPTS}'. text-tsne needs the checkpoint of a method that learns "
            "prompts, of either stage."
        )
    return fixed


def choose_images(cfg: CfgNode, identities: int, images: int, seed: int) -> tuple[Any, list[ReIDImage]]:
    """The first test set, and of `identities` drawn by the seed `images` each of its query and gallery, by identity.

    Drawn among the identities of the queries (distractors are none) that have enough. Raises ConfigError if they are
    too few.
    """
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty: name the dataset to show.")
    if identities < 1 or images < 1:
        raise ConfigError(f"--identities {identities} and --images {images} must be positive.")
    name, dataset = next(iter(build_datasets(cfg, cfg.DATASETS.TEST[:1]).items()))
    by_identity: dict[int, list[ReIDImage]] = {int(pid): [] for pid in np.unique(dataset.query.pids)}
    for split in (dataset.query, dataset.gallery):
        for position, pid in enumerate(split.pids.tolist()):
            if pid in by_identity:
                by_identity[pid].append(split[position])
    enough = [pid for pid, records in by_identity.items() if len(records) >= images]
    if len(enough) < identities:
        raise ConfigError(
            f"{len(enough)} of the {len(by_identity)} test identities of {name} have {images} images or more, "
            f"{identities} were asked for; lower --identities or --images."
        )
    chosen = sorted(_draw(np.array(enough), identities, seed).tolist())
    positions = {pid: np.sort(_draw(np.arange(len(by_identity[pid])), images, seed)) for pid in chosen}
    return dataset, [by_identity[pid][position] for pid in chosen for position in positions[pid]]


def panel_names(paths: Sequence[Path]) -> list[str]:
    """The checkpoints' folders; with the file, or as whole paths, where that does not tell them apart."""
    paths = [Path(path).expanduser().resolve() for path in paths]
    for name in (lambda path: path.parent.name, lambda path: f"{path.parent.name}/{path.stem}", str):
        names = [name(path) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"A checkpoint is named twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}.")


def _draw(values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of the values, or all if they are fewer."""
    return np.random.default_rng(seed).permutation(values)[:count]


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "text-tsne": ("text features of the training identities", None, None),
        "image-tsne": ("image features of test identities", 20, 10),
        "attention": ("attention over test images", 6, 1),
    }
    for name, (what, identities, images) in helps.items():
        command = commands.add_parser(name, help=what, description=f"Draw {what} as a PNG.")
        command.add_argument("--checkpoint", action="append", required=True, help="repeat it to compare models")
        command.add_argument("--config-file", help="for all checkpoints (default: the config.yaml beside each)")
        command.add_argument(
            "--identities", type=int, default=identities, help=f"how many are shown (default: {identities or 'all'})"
        )
        if images is not None:
            command.add_argument("--images", type=int, default=images, help="of each identity (default: %(default)s)")
        command.add_argument("--seed", type=int, default=0, help="of what is chosen, and of t-SNE")
        command.add_argument("--output", help="default: <checkpoint>_<command>.png beside the first checkpoint")
        command.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY value", help="config keys to change")
    return parser.parse_args(argv)


def draw(arguments: argparse.Namespace) -> Path:
    """Draw what the arguments ask for; returns where it was written. Logs the numbers of the t-SNE panels."""
    paths = [Path(path).expanduser() for path in arguments.checkpoint]
    command = arguments.command
    output = Path(arguments.output or paths[0].with_name(f"{paths[0].stem}_{command.replace('-', '_')}.png"))
    if output.suffix != ".png":
        raise ConfigError(f"--output {output}: the picture is a PNG, give it the ending .png.")
    models = {
        name: config_for_report(arguments.config_file, [*arguments.overrides, "MODEL.WEIGHTS", str(path)])
        for name, path in zip(panel_names(paths), paths, strict=True)
    }
    seed_everything(arguments.seed)
    if command == "text-tsne":
        drawn = text_tsne(models, arguments.identities, arguments.seed)
    else:
        figure: Callable = {"image-tsne": image_tsne, "attention": attention}[command]
        drawn = figure(models, arguments.identities, arguments.images, arguments.seed)
    if isinstance(drawn, EmbeddingFigure):
        for name, numbers in drawn.numbers.items():
            get_logger().info("%s: %s", name, ", ".join(f"{key} {value:.4f}" for key, value in numbers.items()))
        drawn = drawn.png
    write_atomically(output, drawn)
    get_logger().info("written to %s", output)
    return output


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code: 0, or 2 after a user's error."""
    arguments = parse_arguments(argv)
    setup_logger()
    try:
        draw(arguments)
    except KeyboardInterrupt:
        return 130
    except USER_ERRORS as error:
        get_logger().error("%s", error)
        get_logger().debug("traceback", exc_info=error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
