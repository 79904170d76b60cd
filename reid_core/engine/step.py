"""One optimisation step: 16-bit arithmetic, gradient clipping, data parallelism."""

import contextlib
import warnings

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from reid_core.config import ConfigError
from reid_core.modeling.precision import DTYPES, native_16bit_dtype
from reid_core.structures import METRIC_PREFIX, Batch
from reid_core.utils import comm


def amp_dtype(setting: str, device: torch.device) -> torch.dtype | None:
    """The 16-bit type of SOLVER.AMP on the device, None for plain float32. Raises ConfigError for another word."""
    if setting == "off":
        return None
    if setting == "auto":
        return native_16bit_dtype(device)
    if setting not in DTYPES:
        raise ConfigError(f"SOLVER.AMP must be one of auto, off, {', '.join(DTYPES)}; got '{setting}'.")
    return DTYPES[setting]


class TrainStep:
    """Forward, backward and update of a module whose `forward(batch)` gives named losses.

    amp: None or a 16-bit dtype; float16 scales the loss. clip_gradient_norm: 0 for no limit. With several processes
    gradients are averaged over them; `model` stays the bare module. metrics: of the last step, on the device.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        amp: torch.dtype | None = None,
        clip_gradient_norm: float = 0.0,
    ):
        self.model, self.optimizer, self.device = model, optimizer, device
        self.amp, self.clip_gradient_norm = amp, clip_gradient_norm
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == torch.float16)
        self.metrics: dict[str, Tensor] = {}
        self._parallel: nn.Module | None = None

    def forward_backward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of a batch and the gradients of their sum; returns the losses, detached.

        Entries of the module's result whose names begin with `METRIC_PREFIX` are not minimised but kept in `metrics`.
        """
        batch = to_device(batch, self.device)
        self.model.train()
        if self._parallel is None:  # not before the first step: an earlier stage may still change the model's parts
            self._parallel = _parallel(self.model, self.device)
        precision = torch.autocast(self.device.type, dtype=self.amp) if self.amp else contextlib.nullcontext()
        with precision:
            results = self._parallel(batch)
            losses = {name: value for name, value in results.items() if not name.startswith(METRIC_PREFIX)}
            total = sum(losses.values())
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        self.metrics = {
            name.removeprefix(METRIC_PREFIX): value.detach() for name, value in results.items() if name not in losses
        }
        return {name: value.detach() for name, value in losses.items()} | {"total_loss": total.detach()}

    def apply(self) -> None:
        """Clip the gradients and update the parameters."""
        if self.clip_gradient_norm > 0:
            self.scaler.unscale_(self.optimizer)
            parameters = [p for group in self._groups() for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _groups(self) -> list[dict]:
        return self.optimizer.param_groups

    def state_dict(self) -> dict:
        return {
            "kind": type(self.optimizer).__name__,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError if the saved optimiser is another one or trained other parameters."""
        kind = type(self.optimizer).__name__
        if state["kind"] != kind:
            raise ValueError(f"it was trained with {state['kind']}, SOLVER.OPTIMIZER is now {kind}.")
        ours = [group["names"] for group in self._groups()]
        saved = [group["names"] for group in state["optimizer"]["param_groups"]]
        if ours != saved:
            differing = sorted({name for group in ours for name in group} ^ {name for group in saved for name in group})
            raise ValueError(
                "The saved optimiser trained other parameters or in other groups"
                + (f"; differing: {', '.join(differing[:8])}." if differing else ", by other rules for biases.")
            )
        # Rates, decays and momenta are the config's, which may have been changed on purpose before resuming.
        settings = [{key: value for key, value in group.items() if key != "params"} for group in self._groups()]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, setting in zip(self._groups(), settings, strict=True):
            group.update(setting)
        if state["scaler"] and self.scaler.is_enabled():  # a run in other 16 bits has no loss scale to hand on
            self.scaler.load_state_dict(state["scaler"])


def _parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The module with its gradients averaged over processes; the bare module in one process."""
    if comm.world_size() == 1:
        return model
    # Buffers are not broadcast at every forward pass (a prototype bank is large and equal everywhere
    # anyway); running statistics are levelled before anything reads them, see synchronise_buffers.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the option's new name is unknown to older releases
        return DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=True,
        )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch's tensors on the device; the caller's batch is not changed."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


def synchronise_buffers(model: nn.Module) -> None:
    """Give every process the mean of the floating-point buffers (running statistics); no-op in one process."""
    if comm.world_size() == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(comm.mean_over_processes(buffer))
