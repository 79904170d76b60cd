"""The training loop: stages, epochs, steps, and the hooks in which everything else happens.

It knows no data format, model or optimiser. Its whole position is four numbers (stage, epoch, steps done in the
epoch, steps done in all), so that a checkpoint taken after any step can go on from exactly there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reid_core.engine.hooks.base import Hook
from reid_core.engine.stages import Stage
from reid_core.engine.step import synchronise_buffers
from reid_core.utils import comm, seed
from reid_core.utils.events import MetricBuffer
from reid_core.utils.logging import get_logger


class Trainer:
    """Runs a list of stages over a model that all of them share.

    model: saved in checkpoints whole; the stages' modules are it or parts of it. Hooks are called in the order of
    registration, the trainer's own before the stage's, but those that close a step (`Hook.closes`) come last.

    Hooks may read: `stage`, `epoch` (epochs completed in this stage), `iteration` (steps completed in this epoch),
    `global_iteration` (steps completed in all stages), `losses` (of the last step, on the device) and `batch`.
    """

    def __init__(self, model: nn.Module, stages: Sequence[Stage], hooks: Sequence[Hook] = ()):
        if len({stage.name for stage in stages}) != len(stages):
            raise ValueError(f"Stages need different names, got {[stage.name for stage in stages]}.")
        self.model, self.stages, self.hooks = model, list(stages), []
        self.metrics = MetricBuffer()
        self.stage_index = self.epoch = self.iteration = self.global_iteration = 0
        self.losses: dict[str, Tensor] = {}
        self.batch: dict[str, Tensor] = {}
        self._saved_generators: list[dict] | None = None
        for hook in hooks:
            self.register_hook(hook)
        for stage in self.stages:
            for hook in stage.hooks:
                self.register_hook(hook, stage.name)

    @property
    def stage(self) -> Stage:
        return self.stages[min(self.stage_index, len(self.stages) - 1)]

    def register_hook(self, hook: Hook, stage_name: str | None = None) -> None:
        """Add a hook behind those that are there, for one stage or for all. Raises ValueError for a name twice."""
        if any(other.name == hook.name for other, _ in self.hooks):
            raise ValueError(f"Two hooks are named '{hook.name}'; give one of them another name, or its state is lost.")
        hook.trainer = self
        self.hooks.append((hook, stage_name))
        self.hooks.sort(key=lambda entry: entry[0].closes)  # stable: otherwise in the order of registration

    def call(self, moment: str, *arguments: object) -> None:
        """Call the method `moment` of every hook that belongs to the present stage."""
        for hook, stage_name in self.hooks:
            if stage_name in (None, self.stage.name):
                getattr(hook, moment)(*arguments)

    def train(self) -> None:
        """Run what is left of the stages. Hooks learn in `after_train` how it ended; errors then go on upward."""
        try:
            self.call("before_train")
            while self.stage_index < len(self.stages):
                self._run_stage()
                self.stage_index, self.epoch, self.iteration = self.stage_index + 1, 0, 0
                self._release_finished()
        except BaseException as failure:  # includes Ctrl-C: hooks flush what they hold
            self.call("after_train", failure)
            raise
        else:
            self.call("after_train", None)

    def _release_finished(self) -> None:
        """Free what earlier stages hold; the last one keeps its own, for whoever looks at the run afterwards."""
        for stage in self.stages[: min(self.stage_index, len(self.stages) - 1)]:
            stage.release()

    def _run_stage(self) -> None:
        self.call("before_stage")
        self._restore_generators()
        while self.epoch < self.stage.epochs:
            if self.iteration == 0:
                self.call("before_epoch")
            for batch in self.stage.loader.epoch(self.epoch, self.iteration):
                self._run_step(batch)
            self.epoch, self.iteration = self.epoch + 1, 0
            self.call("after_epoch")
        self.call("after_stage")

    def _run_step(self, batch: dict[str, Tensor]) -> None:
        self.batch = batch
        self.call("before_step")
        self.losses = self.stage.step.forward_backward(batch)
        self.call("after_backward")
        self.stage.step.apply()
        self.iteration += 1
        self.global_iteration += 1
        self.metrics.put({**self.losses, **self.stage.step.metrics})
        self.call("after_step")

    def state_dict(self) -> dict:
        """The whole run at this moment, as numbers, text and tensors. Every process has to call it.

        Levels the running statistics of the processes first: one process's alone would not be the model's.
        """
        with torch.no_grad():
            synchronise_buffers(self.model)
        return {
            "stage": self.stages[self.stage_index].name if self.stage_index < len(self.stages) else "",
            "epoch": self.epoch,
            "iteration": self.iteration,
            "global_iteration": self.global_iteration,
            "step": self.stage.step.state_dict(),
            "hooks": {hook.name: hook.state_dict() for hook, _ in self.hooks},
            "generators": comm.all_gather_objects(seed.generator_state()),
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state`. Raises ValueError if the run has no stage of the saved name or other parameters."""
        names = [stage.name for stage in self.stages]
        if state["stage"] not in names:
            raise ValueError(f"The checkpoint is in stage '{state['stage']}'; this run has {', '.join(names)}.")
        self.stage_index = names.index(state["stage"])
        self.epoch, self.iteration = state["epoch"], state["iteration"]
        self.global_iteration = state["global_iteration"]
        self._release_finished()
        self.stage.step.load_state_dict(state["step"])
        for hook, _ in self.hooks:
            if hook.name in state["hooks"]:
                hook.load_state_dict(state["hooks"][hook.name])
            elif hook.state_dict():
                get_logger().warning(f"The checkpoint has no state for the hook '{hook.name}'; it starts afresh.")
        self._saved_generators = state["generators"]

    def _restore_generators(self) -> None:
        """Put the random generators back where they were saved; after `before_stage`, which may have drawn."""
        saved, self._saved_generators = self._saved_generators, None
        if saved is None:
            return
        if len(saved) != comm.world_size():
            get_logger().warning(
                f"The checkpoint was written by {len(saved)} processes, this run has {comm.world_size()}: "
                "random numbers in the model will not continue exactly."
            )
            return
        seed.set_generator_state(saved[comm.rank()])
