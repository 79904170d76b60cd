"""An exported model beside PyTorch: its features, its scores on a test set, its speed."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn import functional as F

from reid_core.config import CfgNode
from reid_core.data.datasets import build_dataset, dataset_name, require_splits
from reid_core.data.loader import build_test_loader
from reid_core.evaluation import build_evaluator
from reid_core.inference.exported_model import ExportedModel
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.structures import Batch, ReIDImage

CHECKED_BATCHES = (1, 3, 16)

Encoder = Callable[[Tensor, dict[str, Tensor]], Tensor]  # images uint8, camids and viewids by name -> features


class Agreement(NamedTuple):
    """Unit-length features of an exported model against PyTorch's: the largest absolute difference of a component,
    the least and the mean cosine."""

    largest_difference: float
    least_cosine: float
    mean_cosine: float


@torch.inference_mode()
def compare_features(
    model: MetaArchitecture, exported: ExportedModel, batches: Sequence[int] = CHECKED_BATCHES, seed: int = 0
) -> Agreement:
    """Both on random images, in batches of several sizes, with random cameras and viewpoints if the file takes them."""
    generator = torch.Generator().manual_seed(seed)
    known = dict(zip(("camids", "viewids"), model.side_information, strict=True))
    expected, found = [], []
    for count in batches:
        shape = (count, 3, *exported.input_size)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        numbers = {name: torch.randint(-1, known[name], (count,), generator=generator) for name in exported.inputs[1:]}
        expected.append(_unit(model(Batch(images=images, **numbers))))
        found.append(_unit(exported(images, **numbers)))
    expected, found = torch.cat(expected), torch.cat(found)
    cosines = (expected * found).sum(dim=1)
    return Agreement(float((expected - found).abs().max()), float(cosines.min()), float(cosines.mean()))


def compare_scores(
    model: MetaArchitecture, exported: ExportedModel, cfg: CfgNode, camera_offsets: Mapping[str, int] | None = None
) -> dict[str, dict[str, dict]]:
    """Results on DATASETS.TEST by dataset, then "pytorch" and "exported"; of single images (no TEST.FLIP).

    camera_offsets: as in `ReIDModel`; cameras are passed to both if the file takes them and the model knows them.
    Raises ConfigError and OSError as building the datasets does.
    """
    model.eval()
    encoders: dict[str, Encoder] = {"pytorch": lambda images, numbers: model(Batch(images=images, **numbers))}
    encoders["exported"] = lambda images, numbers: exported(images, **numbers)
    results = {}
    for entry in cfg.DATASETS.TEST:
        name, dataset = dataset_name(entry), build_dataset(cfg, entry)
        require_splits(dataset, ("query", "gallery"), "DATASETS.TEST")
        offset = (camera_offsets or {}).get(name)
        names = () if offset is None else tuple(exported.inputs[1:])
        evaluator = build_evaluator(cfg, dataset)
        results[name] = {
            side: evaluator.evaluate(
                *(_encode(encoder, cfg, records, names, offset) for records in (dataset.query, dataset.gallery))
            )
            for side, encoder in encoders.items()
        }
    return results


def compare_speed(
    model: MetaArchitecture, exported: Mapping[str, ExportedModel], batches: Sequence[int] = (1, 16), rounds: int = 5
) -> dict[int, dict[str, float]]:
    """Shortest times of a batch in seconds, by its size, of "pytorch" and of each file, on equally many threads.

    All take turns, after one call that is not counted: a slow spell of the machine falls on all. Files of one input
    size.
    """
    model.eval()
    (size,) = {file.input_size for file in exported.values()}
    results = {}
    for count in batches:
        images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8)
        ways: dict[str, Callable[[], Tensor]] = {"pytorch": partial(model, Batch(images=images))}
        ways |= {name: partial(file, images) for name, file in exported.items()}
        results[count] = _shortest_times(ways, rounds)
    return results


def speed_table(times: Mapping[int, Mapping[str, float]]) -> str:
    """What `compare_speed` gives as text: latency of a batch, images per second, and the ratio to PyTorch's."""
    rows = [
        (count, name, 1000 * duration, count / duration, seconds["pytorch"] / duration)
        for count, seconds in times.items()
        for name, duration in seconds.items()
    ]
    headers = ("batch", "runtime", "ms", "images/s", "of PyTorch's")
    return tabulate(rows, headers=headers, floatfmt=("", "", ".2f", ".1f", ".2f"))


@torch.inference_mode()
def _shortest_times(ways: Mapping[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


@torch.inference_mode()
def _encode(
    encoder: Encoder, cfg: CfgNode, records: Sequence[ReIDImage], names: Sequence[str], offset: int | None
) -> Tensor:
    """Unit-length features float32 [N, D] of the records, in their order. names: the numbers that are passed on."""
    features, indices = [], []
    for batch in build_test_loader(cfg, records):
        numbers = {name: batch[name] + offset if name == "camids" else batch[name] for name in names}
        features.append(_unit(encoder(batch["images"], numbers)))
        indices.append(batch["indices"])
    return torch.cat(features)[torch.cat(indices).argsort()]


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.float(), dim=1)
