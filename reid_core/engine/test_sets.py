"""The datasets that a model is evaluated on, each with its evaluator."""

from collections.abc import Iterator, Mapping, Sequence

from reid_core.config import CfgNode, ConfigError
from reid_core.data.datasets.base import ReIDDataset
from reid_core.data.loader import build_test_loader
from reid_core.engine.encoding import encode
from reid_core.evaluation import build_evaluator
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.registry import DATASET_REGISTRY
from reid_core.structures import Batch, ReIDImage
from reid_core.utils import comm
from reid_core.utils.logging import get_logger


def build_datasets(cfg: CfgNode, names: list[str]) -> dict[str, ReIDDataset]:
    """The registered datasets of these names, read from DATASETS.ROOT."""
    return {name: DATASET_REGISTRY.build(name, cfg) for name in names}


class TestSets:
    """Encodes query and gallery of every test dataset, and asks its evaluator.

    The loaders' settings come from the config. datasets: name -> dataset. camera_offsets: where the cameras of each
    training dataset begin in the model's numbering; the cameras (and views) of any other dataset are unknown to the
    model and are not passed to it. side_information: False to pass none at all.
    """

    __test__ = False  # not a test class, whatever its name begins with

    def __init__(
        self,
        cfg: CfgNode,
        datasets: Mapping[str, ReIDDataset],
        camera_offsets: Mapping[str, int],
        side_information: bool = True,
    ):
        self.cfg, self.datasets = cfg, dict(datasets)
        self.camera_offsets = dict(camera_offsets) if side_information else {}
        self.side_information = side_information
        self._warned: set[str] = set()
        self.evaluators = {
            name: build_evaluator(cfg, dataset)
            for name, dataset in self.datasets.items()
        }

    def check_side_information(self, model: MetaArchitecture) -> None:
        """Raise ConfigError if a test set has more cameras or viewpoints than the model has embeddings for.

        Another dataset than those trained on is a warning: its images are encoded without an embedding.
        """
        cameras, views = model.side_information
        if not (self.side_information and (cameras or views)):
            return
        for name, dataset in self.datasets.items():
            pairs = {
                "cameras": (dataset.num_cameras, self._cameras_of(name, cameras) if cameras else 0),
                "viewpoints": (dataset.num_views, views),
            }
            for what, (has, trained) in pairs.items():
                if trained and has > trained:
                    raise ConfigError(
                        f"{name} has {has} {what}, the model's side information was trained for {trained}"
                        f" ({', '.join(self.camera_offsets) or 'no dataset'}). Set TEST.SIDE_INFORMATION False to "
                        "evaluate without it."
                    )
            if name not in self.camera_offsets and name not in self._warned:
                self._warned.add(name)
                get_logger().warning(f"{name} was not trained on: it is encoded without side information.")

    def _cameras_of(self, name: str, cameras: int) -> int:
        """How many of the model's cameras are this dataset's; all of them for one that it was not trained on."""
        if name not in self.camera_offsets:
            return cameras
        first = self.camera_offsets[name]
        return min((other for other in self.camera_offsets.values() if other > first), default=cameras) - first

    def evaluate(self, model: MetaArchitecture) -> dict[str, dict]:
        """Results by dataset. Every process has to call it; all of them get the results.

        Raises ConfigError as `check_side_information`.
        """
        self.check_side_information(model)
        results = {}
        for name, dataset in self.datasets.items():
            features = [
                encode(model, self.batches(name, records))
                for records in (dataset.query, dataset.gallery)
            ]
            results[name] = self.evaluators[name].evaluate(*features)
        return results

    def batches(self, name: str, records: Sequence[ReIDImage]) -> Iterator[Batch]:
        """Test batches of records of the dataset `name`, this process's share, with cameras that the model knows."""
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
