"""Optimisers, and the rule that gives each parameter its learning rate and weight decay."""

from collections.abc import Iterable

import torch
from torch import nn

from reid_core.config import CfgNode, ConfigError
from reid_core.registry import OPTIMIZER_REGISTRY

NamedParameters = Iterable[tuple[str, nn.Parameter]]


def parameter_groups(
    named_parameters: NamedParameters,
    base_lr: float,
    weight_decay: float,
    bias_lr_factor: float,
    weight_decay_bias: float,
) -> list[dict]:
    """Groups of the parameters that are trained, one for each pair of rate and decay, in order of first appearance.

    A parameter with "bias" anywhere in its name has its own rate and decay (so do `in_proj_bias` and the like). Each
    group holds `params`, `names`, `lr`, `base_lr` and `weight_decay`. Parameters without gradient are left out.
    """
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        is_bias = "bias" in name
        lr = base_lr * bias_lr_factor if is_bias else base_lr
        decay = weight_decay_bias if is_bias else weight_decay
        group = groups.setdefault(
            (lr, decay), {"params": [], "names": [], "lr": lr, "base_lr": lr, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


@OPTIMIZER_REGISTRY.register(name="SGD")
def _sgd(groups: list[dict], cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=cfg.MOMENTUM)


@OPTIMIZER_REGISTRY.register(name="Adam")
def _adam(groups: list[dict], cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups)


@OPTIMIZER_REGISTRY.register(name="AdamW")
def _adamw(groups: list[dict], cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups)


def build_optimizer(cfg: CfgNode, named_parameters: NamedParameters) -> torch.optim.Optimizer:
    """The optimiser that the solver node `cfg` names, over the parameters that require a gradient.

    A registered optimiser is a function of (parameter groups, solver node). Raises ConfigError if nothing is left to
    train or the base rate is not positive.
    """
    if cfg.BASE_LR <= 0:
        raise ConfigError(f"SOLVER.BASE_LR must be positive, got {cfg.BASE_LR}.")
    groups = parameter_groups(
        named_parameters, cfg.BASE_LR, cfg.WEIGHT_DECAY, cfg.BIAS_LR_FACTOR, cfg.WEIGHT_DECAY_BIAS
    )
    if not groups:
        raise ConfigError("No parameter requires a gradient: the freezing rules of the config leave nothing to train.")
    return OPTIMIZER_REGISTRY.get(cfg.OPTIMIZER)(groups, cfg)
