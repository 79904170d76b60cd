"""The datasets that a model is evaluated on, each with its evaluator."""

from collections.abc import Iterator, Mapping, Sequence

import reid_core.evaluation  # noqa: F401  (registers the evaluators)
from reid_core.config import CfgNode
from reid_core.data.datasets.base import ReIDDataset
from reid_core.data.loader import build_test_loader
from reid_core.engine.encoding import encode
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.registry import DATASET_REGISTRY, EVALUATOR_REGISTRY
from reid_core.structures import Batch, ReIDImage
from reid_core.utils import comm


def build_datasets(cfg: CfgNode, names: list[str]) -> dict[str, ReIDDataset]:
    """The registered datasets of these names, read from DATASETS.ROOT."""
    return {name: DATASET_REGISTRY.build(name, cfg) for name in names}


class TestSets:
    """Encodes query and gallery of every test dataset, and asks its evaluator.

    The loaders' settings come from the config. datasets: name -> dataset. camera_offsets: where the cameras of each
    training dataset begin in the model's numbering; the cameras (and views) of any other dataset are unknown to the
    model and are not passed to it.
    """

    __test__ = False  # not a test class, whatever its name begins with

    def __init__(self, cfg: CfgNode, datasets: Mapping[str, ReIDDataset], camera_offsets: Mapping[str, int]):
        self.cfg, self.datasets, self.camera_offsets = cfg, dict(datasets), dict(camera_offsets)
        self.evaluators = {
            name: EVALUATOR_REGISTRY.build(cfg.TEST.EVALUATOR, cfg, dataset=dataset)
            for name, dataset in self.datasets.items()
        }

    def evaluate(self, model: MetaArchitecture) -> dict[str, dict]:
        """Results by dataset. Every process has to call it; all of them get the results."""
        results = {}
        for name, dataset in self.datasets.items():
            features = [
                encode(model, self._batches(name, records))
                for records in (dataset.query, dataset.gallery)
            ]
            results[name] = self.evaluators[name].evaluate(*features)
        return results

    def _batches(self, name: str, records: Sequence[ReIDImage]) -> Iterator[Batch]:
        offset = self.camera_offsets.get(name)
        for batch in build_test_loader(self.cfg, records, comm.rank(), comm.world_size()):
            if offset is None:
                yield {key: value for key, value in batch.items() if key not in ("camids", "viewids")}
            else:
                yield {**batch, "camids": batch["camids"] + offset}


def flatten_results(results: Mapping[str, Mapping]) -> dict[str, float]:
    """One level of scalars: with one dataset its own; with several `<dataset>/<metric>`, and each metric's mean."""
    scalars = {
        name: {metric: float(value) for metric, value in values.items() if isinstance(value, int | float)}
        for name, values in results.items()
    }
    if len(scalars) == 1:
        return next(iter(scalars.values()))
    flat = {f"{name}/{metric}": value for name, values in scalars.items() for metric, value in values.items()}
    shared = set.intersection(*(set(values) for values in scalars.values())) if scalars else set()
    for metric in sorted(shared):
        flat[metric] = sum(values[metric] for values in scalars.values()) / len(scalars)
    return flat
