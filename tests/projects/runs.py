"""What the tests of the two-stage methods share: hooks that interfere, comparing how runs end, several processes."""

import multiprocessing
import os
import socket
from collections.abc import Callable

import torch
import torch.distributed as dist

from reid_core.engine.hooks import Hook
from reid_core.modeling.checkpoint import list_checkpoints, read_checkpoint
from reid_core.projects import load_config
from reid_core.registry import TRAINER_REGISTRY


class At(Hook):
    """Does something before a step (counted over both stages), or between the stages."""

    def __init__(self, moment, action, iteration=None):
        self.moment, self.action, self.iteration = moment, action, iteration

    @property
    def name(self):
        return f"at {self.moment} {self.iteration}"

    def _act(self, moment):
        if moment == self.moment and self.iteration in (None, self.trainer.global_iteration):
            self.action(self.trainer)

    def before_step(self):
        self._act("before_step")

    def before_stage(self):
        self._act("before_stage")

    def after_stage(self):
        self._act("after_stage")


def train(trainer, *hooks):
    for hook in hooks:
        trainer.register_hook(hook)
    try:
        trainer.train()
    finally:
        trainer.close()
    return trainer


def copy_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def end_of(folder):
    return read_checkpoint(list_checkpoints(folder)[-1])


def assert_same_end(first, second):
    one, two = end_of(first), end_of(second)
    assert one["model"].keys() == two["model"].keys()
    assert all(torch.equal(value, two["model"][key]) for key, value in one["model"].items())
    states = (content["trainer"]["step"]["optimizer"]["state"] for content in (one, two))
    for ours, theirs in zip(*(state.values() for state in states), strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def float64_run(config: str, words: list[str]) -> dict[str, torch.Tensor]:
    """Both stages in float64 with the model's norms in evaluation mode, so that only the division of labour differs:
    the model's state at the end."""
    cfg = load_config(config, words)
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER)(cfg)
    normalise = trainer.model.double().normalise
    trainer.model.normalise = lambda images: normalise(images).double()
    for name, module in trainer.model.named_modules():
        if isinstance(module, torch.nn.BatchNorm1d) and "text_projector" not in name:
            module.eval().train = lambda mode=True, module=module: module
    loader = trainer.stages[0].loader
    set_features = loader.set_features
    loader.set_features = lambda features: set_features(features.double())
    states = []
    train(trainer, At("after_stage", lambda trainer: states.append(copy_of(trainer.model))))
    return {f"{stage}.{name}": value for stage, state in enumerate(states) for name, value in state.items()}


def in_two_processes(config: str, words: list[str], run: Callable = float64_run) -> list[dict[str, torch.Tensor]]:
    """`run(config, words)`, a function of a module, in two gloo processes; what each of them ends with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.projects.runs"])
    results = context.Queue()
    processes = [context.Process(target=_process, args=(rank, port, config, words, results, run)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    return [{name: torch.from_numpy(value) for name, value in found[rank].items()} for rank in range(2)]


def _process(
    rank: int, port: int, config: str, words: list[str], results: multiprocessing.Queue, run: Callable
) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    results.put((rank, {name: value.numpy() for name, value in run(config, words).items()}))
    dist.barrier()
    dist.destroy_process_group()
