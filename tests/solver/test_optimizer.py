import pytest
import torch
from torch import nn

from reid_core.config import ConfigError, get_cfg
from reid_core.registry import UnknownNameError
from reid_core.solver import build_optimizer


@pytest.fixture
def solver():
    solver = get_cfg().SOLVER
    solver.BASE_LR, solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_BIAS, solver.BIAS_LR_FACTOR = 0.1, 0.01, 0.0, 2.0
    return solver


def test_biases_have_their_own_rate_and_decay(solver):
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(4, 2), "norm": nn.LayerNorm(4)})
    model["norm"].weight.requires_grad_(False)
    optimizer = build_optimizer(solver, model.named_parameters())
    found = {
        name: (group["lr"], group["base_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["names"]
    }
    assert "norm.weight" not in found
    for name, values in found.items():
        assert values == ((0.2, 0.2, 0.0) if "bias" in name else (0.1, 0.1, 0.01)), name
    assert len(optimizer.param_groups) == 2
    assert "attn.in_proj_bias" in found


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_merged_groups_move_parameters_as_one_group_each(solver, name):
    solver.OPTIMIZER = name
    models = [nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    merged = build_optimizer(solver, models[0].named_parameters())
    single = [
        {
            "params": [parameter],
            "lr": 0.2 if "bias" in key else 0.1,
            "weight_decay": 0.0 if "bias" in key else 0.01,
        }
        for key, parameter in models[1].named_parameters()
    ]
    options = {"momentum": solver.MOMENTUM} if name == "SGD" else {}
    separate = getattr(torch.optim, name)(single, **options)
    inputs = torch.randn(4, 3)
    for _ in range(3):
        for model, optimizer in zip(models, (merged, separate), strict=True):
            optimizer.zero_grad()
            model(inputs).square().mean().backward()
            optimizer.step()
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_nothing_to_train_and_bad_rate_and_unknown_optimizer(solver):
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing to train"):
        build_optimizer(solver, model.named_parameters())
    solver.BASE_LR = 0.0
    with pytest.raises(ConfigError, match="BASE_LR must be positive"):
        build_optimizer(solver, nn.Linear(2, 2).named_parameters())
    solver.BASE_LR, solver.OPTIMIZER = 0.1, "Adamm"
    with pytest.raises(UnknownNameError, match="Did you mean 'Adam'"):
        build_optimizer(solver, nn.Linear(2, 2).named_parameters())
