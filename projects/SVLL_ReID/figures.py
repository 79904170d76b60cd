#!/usr/bin/env python
"""Pictures of trained models: text features, image features, attention (arXiv 2407.20647, figures 1, 2 and 4).

  python projects/SVLL_ReID/figures.py text-tsne --checkpoint output/a/best.pt --checkpoint output/b/best.pt

Several checkpoints are drawn side by side. Config: the config.yaml beside each checkpoint.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_core.config import CfgNode, ConfigError
from reid_core.data.images import read_image
from reid_core.data.transforms import Resize
from reid_core.engine.encoding import encode
from reid_core.engine.launch import USER_ERRORS
from reid_core.engine.test_sets import TestSets, build_datasets
from reid_core.evaluation.attention_figure import attention_figure
from reid_core.evaluation.embedding_figure import EmbeddingFigure, embedding_figure
from reid_core.modeling.checkpoint import CheckpointError, read_checkpoint
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.modeling.trained import build_trained
from reid_core.projects import load_config
from reid_core.structures import Batch, ReIDImage
from reid_core.utils.device import resolve_device
from reid_core.utils.file_io import write_atomically
from reid_core.utils.logging import get_logger, setup_logger
from reid_core.utils.seed import seed_everything

_TEXT_FEATURES, _PROMPTS = "text_features", "text.prompts.table"


class TrainedModel:
    """A checkpoint with its config. `content`: as `read_checkpoint` gives it.

    Raises CheckpointError for what is no checkpoint, ConfigError where no config lies beside it and none is given.
    """

    def __init__(self, path: str | Path, config_file: str | Path | None = None, overrides: Sequence[str] = ()):
        self.path = Path(path).expanduser()
        self.content = read_checkpoint(self.path)
        config_file = config_file or self.path.parent / "config.yaml"
        if not Path(config_file).is_file():
            raise ConfigError(f"There is no {config_file} for {self.path}; name the config with --config-file.")
        self.cfg = load_config(config_file, list(overrides))

    def build(self, num_identities: int = 0) -> MetaArchitecture:
        """The model with the checkpoint's weights, in evaluation mode; 0 identities: the image side alone."""
        seed_everything(self.cfg.SEED)
        device = resolve_device(self.cfg.DEVICE)
        return build_trained(self.cfg, self.content, self.path, device, num_identities).eval()

    def batches(self, model: MetaArchitecture, dataset: object, records: Sequence[ReIDImage]) -> Iterator[Batch]:
        """Test batches of records of a dataset, with side information where evaluation would pass it."""
        offsets = self.content["data"].get("camera_offsets", {})
        sets = TestSets(self.cfg, {dataset.name: dataset}, offsets, self.cfg.TEST.SIDE_INFORMATION)
        sets.check_side_information(model)
        return sets.batches(dataset.name, records)


def text_tsne(models: Mapping[str, TrainedModel], identities: int | None = None, seed: int = 0) -> EmbeddingFigure:
    """Figure 1: one point for the text feature of each training identity, or of `identities` drawn by the seed."""
    if identities is not None and identities < 2:
        raise ConfigError(f"--identities {identities}: a t-SNE needs at least 2 points.")
    panels = {}
    for name, model in models.items():
        features = text_features(model)
        if identities is not None:
            features = features[torch.from_numpy(np.sort(_draw(np.arange(len(features)), identities, seed)))]
        panels[name] = (features, None)
    return embedding_figure(panels, "text features", seed)


def image_tsne(
    models: Mapping[str, TrainedModel], identities: int = 20, images: int = 10, seed: int = 0
) -> EmbeddingFigure:
    """Figure 2: test features of the same test images for every model, coloured by identity."""
    dataset, records = choose_images(next(iter(models.values())).cfg, identities, images, seed)
    labels = torch.tensor([record.pid for record in records])
    panels = {}
    for name, trained in models.items():
        model = trained.build()
        panels[name] = (encode(model, trained.batches(model, dataset, records)), labels)
    return embedding_figure(panels, "image features", seed)


def attention(models: Mapping[str, TrainedModel], identities: int = 6, images: int = 1, seed: int = 0) -> bytes:
    """Figure 4: test images and the attention rollout of every model over them. Returns a PNG.

    Raises ConfigError for a model whose backbone cannot tell its attention.
    """
    cfg = next(iter(models.values())).cfg
    dataset, records = choose_images(cfg, identities, images, seed)
    columns = {}
    for name, trained in models.items():
        model = trained.build()
        backbone = getattr(model, "backbone", None)
        if not hasattr(backbone, "forward_attention"):
            raise ConfigError(
                f"{trained.path}: the backbone {type(backbone).__name__} of {type(model).__name__} has no attention to "
                "show; that of CLIPImageBackbone can be shown."
            )

        def rollout(batch: Batch, model: MetaArchitecture = model) -> Tensor:
            pixels, side = model.images(batch), (batch.get("camids"), batch.get("viewids"))
            return model.backbone.forward_attention(pixels, *side).rollout.flatten(1)

        maps = encode(model, trained.batches(model, dataset, records), rollout)
        columns[name] = maps.unflatten(1, model.backbone.visual.grid)
    resize = Resize(cfg.INPUT.SIZE_TEST, cfg.INPUT.INTERPOLATION_TEST)
    pixels = torch.stack([resize(read_image(record.path)) for record in records])
    cameras = [f", camera {record.camid + 1}" if dataset.names_cameras else "" for record in records]
    names = [f"identity {record.pid}{camera}" for record, camera in zip(records, cameras, strict=True)]
    return attention_figure(pixels, columns, names, "attention rollout")


def text_features(trained: TrainedModel) -> Tensor:
    """Text features [C, D] of the training identities: those that the prompts of a checkpoint of stage 1 have so far,
    or those that one of stage 2 holds. Raises CheckpointError for one that has neither."""
    weights = trained.content["model"]
    if _PROMPTS not in weights:
        fixed = weights.get(_TEXT_FEATURES)
        if fixed is not None and fixed.any():
            return fixed
        trained_as = trained.content.get("architecture", "another method")
        raise CheckpointError(
            f"{trained.path} ({trained_as}) holds no text features: neither '{_TEXT_FEATURES}' nor the prompts "
            f"'{_PROMPTS}'. text-tsne needs the checkpoint of a method that learns prompts, of either stage."
        )
    return trained.build(num_identities=len(weights[_PROMPTS])).text.all_features().cpu()


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
        name: TrainedModel(path, arguments.config_file, arguments.overrides)
        for name, path in zip(panel_names(paths), paths, strict=True)
    }
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
