"""The usual run: a config becomes datasets, model, stage, hooks, and is trained."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from reid_core.config import CfgNode, ConfigError, overridden
from reid_core.data.datasets import ReIDDataset, dataset_name, require_splits
from reid_core.data.feature_loader import FeatureLoader
from reid_core.data.loader import TrainLoader, build_train_loader
from reid_core.data.training_set import TrainingSet
from reid_core.engine import hooks
from reid_core.engine.stages import SCHEDULE_OFFSETS, Stage
from reid_core.engine.step import TrainStep, amp_dtype
from reid_core.engine.test_sets import TestSets, build_datasets, flatten_results
from reid_core.engine.trainer import Trainer
from reid_core.modeling import checkpoint as checkpoints
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.modeling.trained import load_weights, without_pretrained
from reid_core.registry import HOOK_REGISTRY, META_ARCHITECTURE_REGISTRY, TRAINER_REGISTRY
from reid_core.solver import build_optimizer, build_schedule
from reid_core.utils import comm
from reid_core.utils.device import resolve_device
from reid_core.utils.logging import get_logger
from reid_core.utils.seed import seed_everything
from reid_core.utils.writers import JSONLinesWriter, TensorBoardWriter, TerminalWriter, Writer


@TRAINER_REGISTRY.register()
class DefaultTrainer(Trainer):
    """The one place where a config becomes a run. A method with another plan overrides a `build_` method.

    Attributes beside the trainer's: cfg, device, datasets (by name), training_set, test_sets, results (of the last
    evaluation, by dataset), weights_report (what MODEL.WEIGHTS brought).
    """

    def __init__(self, cfg: CfgNode):
        _check_settings(cfg)
        self.cfg, self.device = cfg, resolve_device(cfg.DEVICE)
        self.folder = Path(cfg.OUTPUT_DIR)
        self.results: dict[str, dict] = {}
        self._evaluated_at = -1
        seed_everything(cfg.SEED)
        self.datasets = datasets = build_datasets(cfg, [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
        trained_on = [datasets[dataset_name(entry)] for entry in cfg.DATASETS.TRAIN]
        for dataset in trained_on:
            require_splits(dataset, ("train",), "DATASETS.TRAIN")
        self.training_set = TrainingSet(trained_on, cfg.DATASETS.USE_LABELS)
        self.test_sets = TestSets(
            cfg,
            {name: datasets[name] for name in map(dataset_name, cfg.DATASETS.TEST)},
            self.training_set.camera_offsets,
            cfg.TEST.SIDE_INFORMATION,
        )
        self._data_state = self.training_set.state()
        for dataset in datasets.values():
            get_logger().info("%s", dataset)
        self.model = self.build_model()
        self.test_sets.check_side_information(self.model)  # now, not after the first epochs
        self._check_trained_side_information(trained_on)
        self.weights_report = checkpoints.LoadReport([], [], list(self.model.state_dict()), lacks_temporary=True)
        if cfg.MODEL.WEIGHTS:
            content = checkpoints.read_checkpoint(cfg.MODEL.WEIGHTS)
            self.weights_report = load_weights(self.model, content, cfg.MODEL.WEIGHTS, self.training_set.label_map)
        super().__init__(self.model, self.build_stages(), self.build_hooks())
        seed_everything(cfg.SEED + comm.rank())  # from here on each process draws its own numbers

    def build_model(self) -> MetaArchitecture:
        cfg, data = self.cfg, self.training_set
        # A checkpoint need not hold what only an early stage trains with: that starts from CLIP's own weights again.
        if cfg.MODEL.WEIGHTS and not META_ARCHITECTURE_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE).temporary:
            cfg = without_pretrained(cfg)
        return build_model(cfg, self.device, data.num_identities, data.num_cameras, data.num_views)

    def _check_trained_side_information(self, datasets: Sequence[ReIDDataset]) -> None:
        """Cameras of test images alone have embeddings too, which nothing trains: a warning. ConfigError where the
        camera numbers are none."""
        nameless = [dataset.name for dataset in datasets if not dataset.names_cameras]
        if self.model.side_information[0] and nameless:
            raise ConfigError(f"{', '.join(nameless)} names no cameras: set MODEL.BACKBONE.SIE_CAMERA False.")
        data = self.training_set
        columns = (("cameras", data.camids, data.num_cameras), ("viewpoints", data.viewids, data.num_views))
        for used, (what, numbers, count) in zip(self.model.side_information, columns, strict=True):
            trained = len(numbers.unique())
            if used and trained < count:
                get_logger().warning(
                    f"{count - trained} of {count} {what} are in no training image: their side information stays as "
                    "it was initialised. Consider switching it off."
                )

    def build_stages(self) -> list[Stage]:
        """One stage, configured by SOLVER. A method with several puts its own, from `make_stage`, before it."""
        loader = build_train_loader(self.cfg, self.training_set, comm.rank(), comm.world_size())
        _check_batch_size(self.cfg.DATALOADER.BATCH_SIZE // comm.world_size(), self.model)
        parameters = [
            (name, parameter)
            for name, parameter in self.model.named_parameters()
            if not name.startswith(self.model.temporary or ("\0",))
        ]
        return [self.make_stage("train", self.model, loader, self.cfg.SOLVER, parameters)]

    def make_stage(
        self,
        name: str,
        module: nn.Module,
        loader: TrainLoader | FeatureLoader,
        solver: CfgNode,
        parameters: Iterable[tuple[str, nn.Parameter]] | None = None,
        stage_hooks: Sequence[hooks.Hook] = (),
        evaluated: bool = True,
        checkpoint_period: int | None = None,
    ) -> Stage:
        """A stage in which the solver node trains the named parameters of a module: all that require a gradient, or
        those given. See `Stage` for the rest. Raises ConfigError that names the stage."""
        try:
            return self._make_stage(
                name, module, loader, solver, parameters, hooks=stage_hooks, evaluated=evaluated,
                checkpoint_period=checkpoint_period,
            )  # fmt: skip
        except ConfigError as error:
            if solver is self.cfg.SOLVER:
                raise
            raise ConfigError(f"Stage '{name}', whose own solver goes before SOLVER: {error}") from error

    def _make_stage(
        self,
        name: str,
        module: nn.Module,
        loader: TrainLoader | FeatureLoader,
        solver: CfgNode,
        parameters: Iterable[tuple[str, nn.Parameter]] | None,
        **options: Any,
    ) -> Stage:
        if solver.SCHEDULE_AT not in SCHEDULE_OFFSETS:
            raise ConfigError(
                f"SOLVER.SCHEDULE_AT must be one of {', '.join(SCHEDULE_OFFSETS)}, got '{solver.SCHEDULE_AT}'."
            )
        step = TrainStep(
            module,
            build_optimizer(solver, module.named_parameters() if parameters is None else parameters),
            self.device,
            amp_dtype(solver.AMP, self.device),
            solver.CLIP_GRADIENT_NORM,
        )
        return Stage(
            name=name,
            loader=loader,
            step=step,
            schedule=build_schedule(solver),
            epochs=solver.MAX_EPOCHS,
            schedule_offset=SCHEDULE_OFFSETS[solver.SCHEDULE_AT],
            **options,
        )

    def stage_solver(self, name: str) -> CfgNode:
        """The solver of an earlier stage: SOLVER with what STAGES.<NAME>.SOLVER sets."""
        return overridden(self.cfg.SOLVER, self.cfg.STAGES[name].SOLVER, f"STAGES.{name}.SOLVER")

    def build_hooks(self) -> list[hooks.Hook]:
        """The hooks; the method's own stand behind the guard and before those that log, evaluate and save."""
        cfg = self.cfg
        own = [HOOK_REGISTRY.build(name, cfg, training_set=self.training_set) for name in cfg.HOOKS]
        evaluation = [hooks.EvaluationHook(self.test, cfg.TEST.PERIOD)] if cfg.DATASETS.TEST else []
        if not cfg.DATASETS.TEST:
            ignored = f", and CHECKPOINT.BEST_METRIC '{cfg.CHECKPOINT.BEST_METRIC}' is ignored"
            get_logger().info(
                f"DATASETS.TEST is empty: nothing is evaluated{ignored if cfg.CHECKPOINT.BEST_METRIC else ''}."
            )
        return [
            hooks.IterationTimer(),
            hooks.LearningRateHook(),
            hooks.NaNGuard(self.training_set.paths, cfg.LOG.PERIOD, cfg.CHECKPOINT.ITERATION_PERIOD),
            *own,
            hooks.LogMetrics(self.build_writers(), cfg.LOG.PERIOD),
            *evaluation,
            hooks.CheckpointHook(
                self.folder,
                self.checkpoint_content,
                cfg.CHECKPOINT.PERIOD,
                cfg.CHECKPOINT.ITERATION_PERIOD,
                cfg.CHECKPOINT.KEEP,
                cfg.CHECKPOINT.BEST_METRIC if cfg.DATASETS.TEST else "",
            ),
            hooks.InterruptHook(self.device, cfg.LOG.PERIOD),
        ]

    def build_writers(self) -> list[Writer]:
        writers = [TerminalWriter(), JSONLinesWriter(self.folder / "metrics.jsonl")]
        if self.cfg.LOG.TENSORBOARD:
            writers.append(TensorBoardWriter(self.folder / "tensorboard"))
        return writers

    def test(self) -> dict[str, float]:
        """Evaluate the model as it is; keeps `results`, returns them as scalars."""
        self.results = self.test_sets.evaluate(self.model)
        self._evaluated_at = self.global_iteration
        return flatten_results(self.results)

    def checkpoint_content(self) -> dict:
        """What a checkpoint holds beside the position of the run."""
        return {
            "model": self.model.state_dict(),
            "architecture": f"{self.cfg.MODEL.META_ARCHITECTURE} on {self.cfg.MODEL.BACKBONE.ARCHITECTURE}",
            "config": self.cfg.dump(),
            "data": self._data_state,
            "parts": checkpoints.model_parts(self.model),
            "results": flatten_results(self.results) if self._evaluated_at == self.global_iteration else {},
        }

    def resume(self) -> None:
        """Go on from the newest checkpoint of the output folder; from the start, and saying so, if there is none.

        Raises CheckpointError if the training images or the model are not those of the checkpoint.
        """
        found = checkpoints.list_checkpoints(self.folder)
        if not found:
            get_logger().warning(f"--resume: no checkpoint in {self.folder}, starting from the beginning.")
            return
        content = checkpoints.read_checkpoint(found[-1])
        changes = self.training_set.describe_changes(content["data"])
        if changes:
            raise checkpoints.CheckpointError(
                f"The training set is not the one of {found[-1]}: {'; '.join(changes)}. Put the data back, or start "
                "a new run from these weights with MODEL.WEIGHTS and another OUTPUT_DIR."
            )
        self.weights_report = checkpoints.load_model(self.model, content, found[-1], self.training_set.label_map)
        if self.weights_report.notes:
            raise checkpoints.CheckpointError(
                f"{found[-1]} is of another model than the config's: {'; '.join(self.weights_report.notes)}. Resume "
                "with the config that the run was started with, or start a new run from these weights (MODEL.WEIGHTS)."
            )
        if self.weights_report.lacks_temporary:
            self.model.release_temporary()
        try:
            self.load_state_dict(content["trainer"])
        except ValueError as error:
            raise checkpoints.CheckpointError(f"{found[-1]} cannot be resumed: {error}") from error
        get_logger().info(f"Resumed from {found[-1]} after {self.global_iteration} steps.")

    def close(self) -> None:
        """End the loaders' worker processes."""
        for stage in self.stages:
            stage.loader.close()


def _check_settings(cfg: CfgNode) -> None:
    """Refuse at the start what would be ignored, or noticed only after all images have been encoded."""
    if cfg.TEST.ENSEMBLE_WEIGHTS:
        raise ConfigError("TEST.ENSEMBLE_WEIGHTS are for --eval-only: a model is trained alone. Leave them out.")
    if not cfg.DATASETS.USE_LABELS and not any(HOOK_REGISTRY.get(name).makes_labels for name in cfg.HOOKS):
        raise ConfigError(
            f"DATASETS.USE_LABELS is False, and no hook of HOOKS ({', '.join(cfg.HOOKS) or 'none'}) makes pseudo "
            "labels: nothing says which images belong together. Set it True, or choose a method that learns without "
            "identities."
        )


def _check_batch_size(images: int, model: nn.Module) -> None:
    """Refuse now what would fail in the first step, which may be that of a later stage."""
    if images < 2 and any(isinstance(module, nn.BatchNorm1d) for module in model.modules()):
        raise ConfigError(
            f"DATALOADER.BATCH_SIZE leaves {images} image for each of {comm.world_size()} processes; the model "
            "normalises over the batch (BatchNorm) and needs at least 2."
        )
