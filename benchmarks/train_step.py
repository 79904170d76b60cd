"""Claims about training steps of ViT-B/16 at 256x128.

1. A step of the prototype method runs near the matrix rate, and beats the plain one.
2. A step of stage 2 with vision self-supervision, which encodes three views, takes at most 3.1 times that without.

Ours: the step that training runs (uint8 batch to updated weights and memory). Plain: the same heads and losses on
open_clip's own tower, a loop over samples for the memory, one optimiser group per parameter. Both in this process, on
the same batch, taking turns. The limit is the FLOPs of the step over the rate of torch.mm, measured in the same run.
The second comparison: the published settings of both (overlapping patches, side information), the three views in one
batched pass as trained, and, for information, one pass after the other.

    python benchmarks/train_step.py                          # batch 16, float32 and bfloat16
    python benchmarks/train_step.py --batch 64 --device cuda
    python benchmarks/train_step.py --only views
"""

import argparse
from collections.abc import Callable

import torch
from common import DTYPES, best_times, matrix_rate, print_json
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from vision_transformer import plain_tower

from reid_core.config import CfgNode
from reid_core.engine.step import TrainStep
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.projects import load_config
from reid_core.solver import build_optimizer
from reid_core.structures import ImageFeatures

IDENTITIES, CAMERAS = 751, 6
SELF_SUPERVISED = "projects/SVLL_ReID/configs"


class PlainBackbone(nn.Module):
    """open_clip's tower, called as open_clip calls it."""

    def __init__(self, architecture: str, height: int, width: int):
        super().__init__()
        self.visual = plain_tower(architecture, height, width)

    def forward(self, images: Tensor, camids: Tensor | None = None, viewids: Tensor | None = None) -> ImageFeatures:
        tokens = self.visual.transformer(self.visual._embeds(images))
        last = self.visual.ln_post(tokens[:, 0])
        return ImageFeatures(last, last, last @ self.visual.proj)


def plain_update(memory: Tensor, features: Tensor, targets: Tensor, momentum: float) -> None:
    """The published way: for each identity, look at its samples one by one."""
    samples: dict[int, list[Tensor]] = {}
    for feature, target in zip(features, targets.tolist(), strict=True):
        samples.setdefault(target, []).append(feature)
    for target, mine in samples.items():
        distances = [float(feature @ memory[target]) for feature in mine]
        hardest = mine[distances.index(min(distances))]
        memory[target] = F.normalize(momentum * memory[target] + (1 - momentum) * hardest, dim=0)


def make_batch(cfg: CfgNode, batch: int, device: torch.device) -> dict[str, Tensor]:
    images = torch.randint(0, 256, (batch, 3, *cfg.INPUT.SIZE_TRAIN), dtype=torch.uint8)
    targets = torch.arange(batch) // 4
    return {"images": images.to(device), "targets": targets.to(device)}


def our_step(model: MetaArchitecture, cfg: CfgNode, batch: dict, dtype: torch.dtype) -> Callable[[], None]:
    amp = None if dtype == torch.float32 else dtype
    step = TrainStep(model, build_optimizer(cfg.SOLVER, model.named_parameters()), batch["images"].device, amp)

    def run() -> None:
        step.forward_backward(batch)
        model.update_memory()
        step.apply()

    return run


def plain_step(model: MetaArchitecture, cfg: CfgNode, batch: dict, dtype: torch.dtype) -> Callable[[], None]:
    groups = [{"params": [p]} for p in model.parameters() if p.requires_grad]
    solver = cfg.SOLVER
    optimizer = torch.optim.SGD(
        groups, lr=solver.BASE_LR, momentum=solver.MOMENTUM, weight_decay=solver.WEIGHT_DECAY
    )

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(batch["images"].device.type, dtype, enabled=dtype != torch.float32):
            losses = model(batch)
        sum(losses.values()).backward()
        unit, targets = model._seen
        plain_update(model.memory.prototypes, unit, targets, model.memory.momentum)
        optimizer.step()

    return run


def two_stage_step(config_file: str, batch: dict, dtype: torch.dtype, in_one_pass: bool = True) -> Callable[[], None]:
    """A step of the last stage of a two-stage method; the text features are random numbers."""
    cfg = load_config(config_file, ["MODEL.BACKBONE.PRETRAINED", ""])
    torch.manual_seed(0)
    device = batch["targets"].device
    model = build_model(cfg, device, IDENTITIES, CAMERAS, 1)
    model.release_temporary()
    model.text_features.copy_(torch.randn_like(model.text_features))
    model._views_in_one_pass = in_one_pass
    amp = None if dtype == torch.float32 else dtype
    step = TrainStep(model, build_optimizer(cfg.SOLVER, model.named_parameters()), device, amp)

    def run() -> None:
        step.forward_backward(batch)
        step.apply()

    return run


def compare_views(arguments: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Stage 2 with and without vision self-supervision at one batch."""
    size, results = arguments.batch, {}
    views = torch.randint(0, 256, (size, 3, 3, 256, 128), dtype=torch.uint8, device=device)
    targets = torch.arange(size, device=device) // 4
    batch = {"views": views, "images": views[:, 0], "targets": targets, "camids": targets % CAMERAS}
    print(f"{'':34}{'s/step':>10}{'to one view':>13}")
    for label, dtype in DTYPES.items():
        steps = {
            "one view": two_stage_step(f"{SELF_SUPERVISED}/market_neither.yml", batch, dtype),
            "three views": two_stage_step(f"{SELF_SUPERVISED}/market.yml", batch, dtype),
            "three views, one by one": two_stage_step(f"{SELF_SUPERVISED}/market.yml", batch, dtype, False),
        }
        seconds = best_times(steps, arguments.repeats)
        for name, duration in seconds.items():
            ratio = duration / seconds["one view"]
            results[f"{label}_{name.replace(', ', '_').replace(' ', '_')}_seconds"] = duration
            print(f"{label} {name}".ljust(34) + f"{duration:10.2f}{ratio:13.2f}")
        results[f"{label}_views_ratio"] = seconds["three views"] / seconds["one view"]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="projects/PCL_CLIP/configs/market.yml")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["prototypes", "views"], help="one of the two comparisons")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    results = {"device": _describe(device), "batch": arguments.batch, "threads": torch.get_num_threads()}
    print(f"{results['device']}, {results['threads']} threads, batch {arguments.batch}")
    if arguments.only != "views":
        results |= compare_prototypes(arguments, device)
    if arguments.only != "prototypes":
        results |= compare_views(arguments, device)
    print_json(results)


def compare_prototypes(arguments: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Our step of the prototype method and the plain one."""
    cfg = load_config(arguments.config_file, ["MODEL.BACKBONE.PRETRAINED", ""])
    batch = make_batch(cfg, arguments.batch, device)
    models = {}
    for name in ("plain", "ours"):
        torch.manual_seed(0)
        model = build_model(cfg, device, IDENTITIES, 1, 1)
        if name == "plain":
            model.backbone = PlainBackbone(cfg.MODEL.BACKBONE.ARCHITECTURE, *cfg.INPUT.SIZE_TRAIN).to(device)
        model.memory.prototypes.copy_(F.normalize(torch.randn_like(model.memory.prototypes), dim=1))
        models[name] = model.train()
    makers = {"plain": plain_step, "ours": our_step}
    flops, results = {}, {}
    for name, model in models.items():
        run = makers[name](model, cfg, batch, torch.float32)
        # The counter does not see fused attention on CPUs: count with attention as plain products.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run()
        flops[name] = counter.get_total_flops()
        results[f"{name}_gflop_per_image"] = flops[name] / arguments.batch / 1e9
    print(f"{'':18}{'images/s':>10}{'GFLOP/s':>10}{'of mm':>8}{'GFLOP/image':>13}")
    for label, dtype in DTYPES.items():
        rate = matrix_rate(dtype, device)
        seconds = best_times({n: makers[n](m, cfg, batch, dtype) for n, m in models.items()}, arguments.repeats)
        rate = max(rate, matrix_rate(dtype, device))  # before and after: the machine may be shared
        results[f"{label}_matrix_gflops"] = rate / 1e9
        print(f"{label} torch.mm".ljust(28) + f"{rate / 1e9:10.0f}")
        for name, duration in seconds.items():
            reached = flops[name] / duration
            results[f"{label}_{name}_images_per_second"] = arguments.batch / duration
            results[f"{label}_{name}_share_of_matrix_rate"] = reached / rate
            print(
                f"{label} {name}".ljust(18)
                + f"{arguments.batch / duration:10.2f}{reached / 1e9:10.0f}{reached / rate:8.0%}"
                + f"{flops[name] / arguments.batch / 1e9:13.1f}"
            )
        results[f"{label}_ratio"] = seconds["plain"] / seconds["ours"]
        print(f"{label} ratio".ljust(18) + f"{results[f'{label}_ratio']:10.2f}")
    return results


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    main()
