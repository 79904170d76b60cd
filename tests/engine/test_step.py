"""One step: in 16 bits, with clipped gradients, in two processes as in one."""

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from reid_core.config import ConfigError, get_cfg
from reid_core.engine.encoding import encode
from reid_core.engine.step import TrainStep, amp_dtype, synchronise_buffers
from reid_core.modeling.meta_arch import build_model
from reid_core.projects import load_config
from reid_core.solver import build_optimizer
from tests.conftest import SMALL_RUN, write_small_clip
from tests.paths import ROOT

CPU = torch.device("cpu")


def _batches(steps, batch=8, identities=4):
    generator = torch.Generator().manual_seed(5)
    return [
        {
            "images": torch.randn(batch, 3, 64, 32, generator=generator, dtype=torch.float64),
            "targets": torch.arange(batch) % identities,
            "indices": torch.arange(batch),
        }
        for _ in range(steps)
    ]


def _train(architecture, rank, world_size, rule):
    """Three steps on this process's slices of the global batches; BatchNorm in evaluation mode, float64."""
    words = [word for pair in SMALL_RUN.items() for word in pair]
    words += ["MODEL.BACKBONE.ARCHITECTURE", str(architecture), "PCL.UPDATE_RULE", rule]
    cfg = load_config(ROOT / "projects" / "PCL_CLIP" / "configs" / "market.yml", words)
    torch.manual_seed(0)
    model = build_model(cfg, "cpu", 4, 1, 1).double()
    for neck in (model.heads.bottleneck, model.heads.bottleneck_proj):
        neck.eval()
        neck.train = lambda mode=True: None
    batches = _batches(3)
    share = slice(rank * 8 // world_size, (rank + 1) * 8 // world_size)
    shares = [{key: value[share] for key, value in batch.items()} for batch in batches]
    model.rebuild_memory(encode(model, shares[:1]).double(), batches[0]["targets"])
    step = TrainStep(model, build_optimizer(cfg.SOLVER, model.named_parameters()), CPU, clip_gradient_norm=1.0)
    losses = []
    for batch in shares:
        losses.append(step.forward_backward(batch)["total_loss"])
        model.update_memory()
        step.apply()
    return model.state_dict(), torch.stack(losses)


def _worker(rank, folder, architecture, rule):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous_{rule}", rank=rank, world_size=2)
    state, losses = _train(architecture, rank, 2, rule)
    torch.save({"state": state, "losses": losses}, f"{folder}/{rule}_{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("rule", ["hard", "plain"])
def test_two_processes_compute_what_one_does(tmp_path, rule):
    architecture = write_small_clip(tmp_path / "clip.json")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.engine.test_step"])
    workers = [context.Process(target=_worker, args=(rank, tmp_path, architecture, rule)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
        assert worker.exitcode == 0
    expected, losses = _train(architecture, 0, 1, rule)
    parts = [torch.load(tmp_path / f"{rule}_{rank}.pt", weights_only=True) for rank in range(2)]
    torch.testing.assert_close(torch.stack([part["losses"] for part in parts]).mean(dim=0), losses)
    for part in parts:
        for key, value in part["state"].items():
            torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-9, msg=key)


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, batch):
        return {"loss_a": self.layer(batch["images"]).square().mean(), "loss_b": 2 * self.layer.bias.square().sum()}


def _line_step(**options):
    torch.manual_seed(1)
    model = Line()
    solver = get_cfg().SOLVER
    solver.MOMENTUM = 0.0
    return model, TrainStep(model, build_optimizer(solver, model.named_parameters()), CPU, **options)


def test_losses_are_named_and_summed_and_the_batch_is_left_alone():
    model, step = _line_step()
    batch = {"images": torch.randn(8, 4)}
    kept = dict(batch)
    losses = step.forward_backward(batch)
    assert set(losses) == {"loss_a", "loss_b", "total_loss"}
    torch.testing.assert_close(losses["total_loss"], losses["loss_a"] + losses["loss_b"])
    assert not losses["total_loss"].requires_grad
    assert batch == kept
    assert model.layer.weight.grad is not None


def test_clipping_limits_the_norm_of_all_gradients():
    model, step = _line_step(clip_gradient_norm=0.01)
    step.forward_backward({"images": 100 * torch.randn(8, 4)})
    step.apply()
    total = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm()
    torch.testing.assert_close(total, torch.tensor(0.01), rtol=1e-3, atol=0)


def test_bfloat16_runs_where_it_is_asked_for():
    _, step = _line_step(amp=torch.bfloat16)
    exact = _line_step()[1]
    batch = {"images": torch.randn(64, 4)}
    half, full = step.forward_backward(batch)["loss_a"], exact.forward_backward(batch)["loss_a"]
    assert half != full
    torch.testing.assert_close(half.float(), full, rtol=0.05, atol=0)


def test_amp_settings():
    assert amp_dtype("off", CPU) is None
    native = "avx512_bf16" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else None
    if native is not None:
        assert (amp_dtype("auto", CPU) == torch.bfloat16) >= native
    assert amp_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(ConfigError, match="SOLVER.AMP must be one of"):
        amp_dtype("fp8", CPU)


def test_changed_rates_survive_loading_and_other_parameters_are_refused():
    _, step = _line_step()
    step.forward_backward({"images": torch.randn(8, 4)})
    step.apply()
    state = step.state_dict()
    _, other = _line_step()
    for group in other.optimizer.param_groups:
        group["base_lr"] = group["lr"] = 0.5
    other.load_state_dict(state)
    assert all(group["base_lr"] == 0.5 for group in other.optimizer.param_groups)
    solver = get_cfg().SOLVER
    solver.OPTIMIZER = "Adam"
    another = TrainStep(model := Line(), build_optimizer(solver, model.named_parameters()), CPU)
    with pytest.raises(ValueError, match="trained with SGD, SOLVER.OPTIMIZER is now Adam"):
        another.load_state_dict(state)
    model, third = _line_step()
    model.layer.bias.requires_grad_(False)
    third = TrainStep(model, build_optimizer(get_cfg().SOLVER, model.named_parameters()), CPU)
    with pytest.raises(ValueError, match="differing: layer.bias"):
        third.load_state_dict(state)


def test_buffers_are_left_alone_in_one_process():
    norm = nn.BatchNorm1d(2)
    norm(torch.randn(4, 2))
    before = norm.running_mean.clone()
    synchronise_buffers(norm)
    assert torch.equal(norm.running_mean, before)


def test_metrics_are_kept_beside_the_losses_and_not_minimised():
    class Measured(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, batch):
            return {"loss_a": 2 * self.weight, "metric/share": 100 * self.weight}

    model = Measured()
    step = TrainStep(model, torch.optim.SGD(model.parameters(), lr=0.1), CPU)
    losses = step.forward_backward({})
    assert {name: float(value) for name, value in losses.items()} == {"loss_a": 2.0, "total_loss": 2.0}
    assert {name: float(value) for name, value in step.metrics.items()} == {"share": 100.0}
    assert not step.metrics["share"].requires_grad
    assert float(model.weight.grad) == 2.0
