"""The datasets that a model is evaluated on, each with its evaluator."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor

from reid_core.config import CfgNode, ConfigError
from reid_core.data.bad_images import apply_bad_image_policy, count_skipped
from reid_core.data.datasets import ReIDDataset, build_dataset, dataset_name, require_splits
from reid_core.data.loader import build_test_loader
from reid_core.engine.encoding import encode
from reid_core.evaluation import build_evaluator
from reid_core.modeling.meta_arch import MetaArchitecture
from reid_core.modeling.precision import encoding_dtype
from reid_core.structures import Batch, ReIDImage
from reid_core.utils import comm
from reid_core.utils.device import resolve_device
from reid_core.utils.logging import get_logger


def build_datasets(cfg: CfgNode, entries: Iterable[str]) -> dict[str, ReIDDataset]:
    """The datasets of these entries of DATASETS.TRAIN or DATASETS.TEST, by name (see `dataset_name`), each read once.

    With INPUT.ON_BAD_IMAGE "skip" they are without the images that cannot be decoded; every process has to call it.
    Raises ConfigError for two datasets of one name, and for a test set without query or gallery images.
    """
    entry_of: dict[str, str] = {}
    for entry in entries:
        if entry_of.setdefault(dataset_name(entry), entry) != entry:
            raise ConfigError(
                f"DATASETS: '{entry_of[dataset_name(entry)]}' and '{entry}' have one name. Rename a file or folder: "
                "results, labels and cameras are kept apart by it."
            )
    datasets = {name: build_dataset(cfg, entry) for name, entry in entry_of.items()}
    for name, dataset in datasets.items():
        if entry_of[name] in cfg.DATASETS.TEST:
            require_splits(dataset, ("query", "gallery"), "DATASETS.TEST")
    return apply_bad_image_policy(datasets, cfg.INPUT.ON_BAD_IMAGE, max(1, cfg.DATALOADER.NUM_WORKERS))


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
        encoding_dtype(cfg.TEST.PRECISION, resolve_device(cfg.DEVICE))  # a wrong word ends the run now, not later
        self.cfg, self.datasets = cfg, dict(datasets)
        self.camera_offsets = dict(camera_offsets) if side_information else {}
        self.side_information = side_information
        self._warned: set[str] = set()
        self.evaluators = {name: build_evaluator(cfg, dataset) for name, dataset in self.datasets.items()}

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
        results = {name: self.evaluators[name].evaluate(*self.encode(model, name)) for name in self.datasets}
        for name, dataset in self.datasets.items():
            if comm.is_main() and (counts := count_skipped(dataset)):
                get_logger().warning(f"The results of {name} are without bad images: {counts}.")
        return results

    def encode(self, model: MetaArchitecture, name: str) -> list[Tensor]:
        """Features of query and gallery of the dataset `name`, float32 [Q, D] and [G, D] on the CPU."""
        sides = self.datasets[name].query, self.datasets[name].gallery
        options = {"flip": self.cfg.TEST.FLIP, "precision": self.cfg.TEST.PRECISION}
        return [encode(model, self.batches(name, records), **options) for records in sides]

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
