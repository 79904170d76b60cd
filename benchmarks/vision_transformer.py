"""Claim: our pass through CLIP's ViT trains faster than open_clip's on the same weights, in float32 and bfloat16.

Both towers take the same rectangular images and train on the features of the class token: forward, backward and an
SGD step. Ours gives three features (open_clip's one), computes the last block for the class token only, keeps the
patch projection frozen (as the methods do), takes QuickGELU in one pass, and in 16 bits on a CPU does without torch's
fused attention. The matrix rate is that of torch.mm in the same run: the ratio to it says what is left to gain.

    python benchmarks/vision_transformer.py                          # ViT-B/16, 256 x 128, batch 16, all cores
    python benchmarks/vision_transformer.py --threads 2 --repeats 8
"""

import argparse
from collections.abc import Callable

import torch
from common import DTYPES, best_times, matrix_rate, print_json
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reid_core.modeling.backbones import CLIPImageBackbone
from reid_core.modeling.clip import build_image_tower, read_architecture, resize_positions


def plain_tower(architecture: str, height: int, width: int) -> nn.Module:
    """open_clip's own tower for rectangular input: nothing but its position table is changed."""
    tower = build_image_tower(architecture)
    patch = read_architecture(architecture)["vision_cfg"]["patch_size"]
    table = resize_positions(tower.positional_embedding.detach(), tower.grid_size, (height // patch, width // patch))
    tower.positional_embedding = nn.Parameter(table)
    return tower


def training_step(model: nn.Module, images: torch.Tensor, dtype: torch.dtype) -> Callable[[], None]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            features = model(images)
        features = [features] if isinstance(features, torch.Tensor) else features
        sum(part.float().square().mean() for part in features).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-16-quickgelu")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    images = torch.randn(arguments.batch, 3, *arguments.size, device=arguments.device)
    models = {
        "open_clip": plain_tower(arguments.architecture, *arguments.size),
        "ours": CLIPImageBackbone(arguments.architecture, arguments.size, freeze=["conv1"]),
    }
    results = {"architecture": arguments.architecture, "batch": arguments.batch, "threads": torch.get_num_threads()}
    operations = {}
    for name, model in models.items():
        model.to(arguments.device)
        with FlopCounterMode(display=False) as counter:
            training_step(model, images, torch.float32)()
        operations[name] = counter.get_total_flops()
        results[f"{name}_gflop_per_image"] = operations[name] / arguments.batch / 1e9
    print(f"{'':20}{'images/s':>10}{'GFLOP/s':>10}{'of mm':>8}")
    for label, dtype in DTYPES.items():
        rate = matrix_rate(dtype, arguments.device)
        steps = {name: training_step(model, images, dtype) for name, model in models.items()}
        seconds = best_times(steps, arguments.repeats)
        rate = max(rate, matrix_rate(dtype, arguments.device))  # before and after: the machine may be shared
        results[f"{label}_matrix_gflops"] = rate / 1e9
        print(f"{label} torch.mm".ljust(30) + f"{rate / 1e9:10.0f}")
        for name, duration in seconds.items():
            reached = operations[name] / duration
            results[f"{label}_{name}_images_per_second"] = arguments.batch / duration
            results[f"{label}_{name}_share_of_matrix_rate"] = reached / rate
            row = f"{arguments.batch / duration:10.2f}{reached / 1e9:10.0f}{reached / rate:8.0%}"
            print(f"{label} {name}".ljust(20) + row)
        results[f"{label}_ratio"] = seconds["open_clip"] / seconds["ours"]
        print(f"{label} ratio".ljust(20) + f"{results[f'{label}_ratio']:10.2f}")
    print_json(results)


if __name__ == "__main__":
    main()
