"""Claims: batches are made three times (128 x 64) and twice (400 x 160) as fast as by the classical pipeline on the
same core, and four times with the cache; the batches of a cache are the same to the bit.

The classical pipeline: Pillow decodes and resizes, torchvision's first transforms flip, pad and crop the Pillow image,
make a float tensor of it, normalise it and erase a box. Ours is `TrainLoader` as a run builds it. Both read the same
rendered JPEG files, to 256 x 128 pixels, bicubic; a round takes every image once, and the sides take turns. "Per core"
is without workers, by the time of the process on its core; with two workers it is the clock's. Scaled decoding has
nothing to do at these sizes.

    python benchmarks/data_loading.py                          # 2,000 images of each size
    python benchmarks/data_loading.py --images 600 --rounds 3  # a quick look
    python benchmarks/data_loading.py --scaled-decoding        # instead: what scaled decoding does to test features
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import print_json
from PIL import Image
from torch import Tensor

import reid_core.utils.torchvision_import  # noqa: F401 - must come before torchvision

# isort: split
from torchvision import transforms

from reid_core.config import get_cfg
from reid_core.data import RandomSampler, TestLoader, TrainingSet, TrainLoader, build_transforms, read_image
from reid_core.data.datasets import Market1501
from reid_core.data.decoded_images import DecodedImages
from reid_core.data.rendering import RenderingOptions, render_dataset
from reid_core.data.transforms import Resize, split_resize
from reid_core.data.worker import ImageFiles, Task, seed_generators
from reid_core.modeling.backbones import CLIPImageBackbone
from reid_core.utils.logging import get_logger

SIZES = ((128, 64), (400, 160))
GOALS = {(128, 64): 3.0, (400, 160): 2.0, "cache": 4.0}
BATCH = 64


def rendered(root: str, images: int, height: int, width: int) -> TrainingSet:
    """About this many training images, 12 of each identity, in a Market-1501 layout."""
    options = RenderingOptions(
        train_identities=-(-images // 12),
        test_identities=1,
        distractors=0,
        cameras_per_identity=4,
        images_per_camera=3,
        height=height,
        width=width,
    )
    folder = Path(root) / f"{height}x{width}"
    render_dataset(folder, options, workers=os.cpu_count() or 1)
    return TrainingSet([Market1501(str(folder))])


class ClassicalImages(torch.utils.data.Dataset):
    """One image at a time, as the field's programs do it."""

    def __init__(self, paths: list[str]):
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((256, 128), interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.RandomHorizontalFlip(0.5),
                transforms.Pad(10),
                transforms.RandomCrop((256, 128)),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
                transforms.RandomErasing(0.5, (0.02, 0.4), (0.3, 3.3)),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def classical(paths: list[str], workers: int) -> Callable[[], None]:
    loader = torch.utils.data.DataLoader(
        ClassicalImages(paths), BATCH, num_workers=workers, persistent_workers=workers > 0
    )

    def one_pass() -> None:
        for images in loader:
            assert images.dtype == torch.float32

    return one_pass


def ours(training_set: TrainingSet, workers: int, cache_dir: str) -> tuple[TrainLoader, Callable[[], None]]:
    loader = TrainLoader(
        training_set,
        RandomSampler(training_set.targets, BATCH, seed=0),
        build_transforms(get_cfg(), train=True),
        num_workers=workers,
        prefetch_factor=2,
        scaled_decoding=True,
        cache_dir=cache_dir,
    )

    def one_pass() -> None:
        for batch in loader.epoch(0):
            assert batch["images"].dtype == torch.uint8

    return loader, one_pass


def rates(
    passes: dict[str, Callable[[], object]], images: int, rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, tuple[float, float]]:
    """Images per second of each: best and median of the rounds, in which they take turns.

    clock: by default this process's time on its core, so that what others take of a shared machine is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for number in range(rounds + 1):
        for name, one_pass in passes.items():
            began = clock()
            one_pass()
            if number:  # the first round starts the workers
                seconds[name].append(clock() - began)
    return {name: (images / min(times), images / statistics.median(times)) for name, times in seconds.items()}


def shares(training_set: TrainingSet, rounds: int) -> dict[str, float]:
    """Microseconds per image of the steps, one after the other in this process: best of the rounds."""
    paths = list(training_set.paths)
    resize, rest = split_resize(build_transforms(get_cfg(), train=True))
    decoded = [read_image(path) for path in paths[: 4 * BATCH]]
    resized = [resize(image) for image in decoded]
    files = ImageFiles(paths, build_transforms(get_cfg(), train=True))
    tasks = [Task(list(range(start, start + BATCH)), list(range(BATCH))) for start in range(0, 4 * BATCH, BATCH)]

    def augment() -> None:
        for seed, image in enumerate(resized):
            seed_generators(seed)
            rest(image)

    steps = {
        "read": lambda: [Path(path).read_bytes() for path in paths[: 4 * BATCH]],
        "read and decode": lambda: [read_image(path) for path in paths[: 4 * BATCH]],
        "resize": lambda: [resize(image) for image in decoded],
        "augment": augment,
        "whole batch": lambda: [files[task] for task in tasks],
    }
    return {name: 1e6 / best for name, (best, _) in rates(steps, 4 * BATCH, rounds).items()}


def compare(height: int, width: int, images: int, rounds: int, root: str) -> dict[str, float]:
    training_set = rendered(root, images, height, width)
    paths = list(training_set.paths)
    number, results, name = len(paths) // BATCH * BATCH, {}, f"{height}x{width}"
    print(f"\n{name}: {number} images in a round; images/s, best (median)")
    print(f"{'':32}{'per core':>18}{'2 workers':>18}")
    table: dict[str, list[tuple[float, float]]] = {}
    for workers in (0, 2):
        loader, plain = ours(training_set, workers, "")
        cached_loader, cached = ours(training_set, workers, f"{root}/cache")
        passes = {"classical": classical(paths[:number], workers), "ours": plain, "ours, cached": cached}
        clock = time.perf_counter if workers else time.process_time
        for side, measured in rates(passes, number, rounds, clock).items():
            table.setdefault(side, []).append(measured)
            results[f"{name}_{side.replace(', ', '_')}_workers{workers}"] = measured[0]
        loader.close(), cached_loader.close()
    for side, columns in table.items():
        print(f"{side:32}" + "".join(f"{best:10.0f} ({median:5.0f})" for best, median in columns))
    for side, goal in (("ours", GOALS[height, width]), ("ours, cached", GOALS["cache"])):
        ratios = [mine[0] / other[0] for mine, other in zip(table[side], table["classical"], strict=True)]
        results[f"{name}_{side.replace(', ', '_')}_ratio"] = ratios[0]
        print(f"{side + ' / classical':32}" + "".join(f"{ratio:18.2f}" for ratio in ratios) + f"   goal {goal:.0f}")
    parts = shares(training_set, rounds)
    print("microseconds an image, one process: " + ", ".join(f"{step} {value:.0f}" for step, value in parts.items()))
    limit = 1e6 / parts["read and decode"]
    print(f"limit, decoding alone: {limit:.0f} images/s; ours is at {table['ours'][0][0] / limit:.0%} of it")
    return results | {f"{name}_us_{step.replace(' ', '_')}": value for step, value in parts.items()}


def scaled_decoding_effect(root: str, images: int) -> dict[str, float]:
    """Relative difference of test features, ViT of random weights, with scaled decoding against without."""
    torch.manual_seed(0)
    backbone, results = CLIPImageBackbone("ViT-B-16-quickgelu", (256, 128)).eval(), {}
    transform = build_transforms(get_cfg(), train=False)
    mean = std = torch.full((3, 1, 1), 0.5)
    print(f"{'source':>12}{'decoding':>10}{'pixels':>10}{'features':>10}{'images/s':>20}")
    for height, width in ((400, 160), (512, 256), (700, 300), (1100, 560)):
        table = rendered(root, images, height, width).images[:images]
        features, pixels, speed = [], [], []
        for scaled in (False, True):
            batches = [batch["images"] for batch in TestLoader(table, transform, BATCH, scaled_decoding=scaled)]
            decoded = DecodedImages(table.paths, Resize((256, 128)), scaled)
            speed.append(rates({"": lambda decoded=decoded: list(decoded)}, images, 3)[""][0])
            pixels.append(torch.cat(batches).float())
            with torch.no_grad():
                features.append(torch.cat([backbone((batch / 255 - mean) / std).projected for batch in batches]))
        relative = ((features[1] - features[0]).norm(dim=1) / features[0].norm(dim=1)).max().item()
        levels = (pixels[1] - pixels[0]).abs().mean().item()
        print(f"{height:>7}x{width}{'scaled':>10}{levels:10.3f}{relative:10.2e}{speed[1]:10.0f} / {speed[0]:.0f}")
        results |= {f"{height}x{width}_features": relative, f"{height}x{width}_pixel_levels": levels}
        results[f"{height}x{width}_speedup"] = speed[1] / speed[0]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="at each size, about")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scaled-decoding", action="store_true", help="report its effect on test features instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    get_logger().setLevel("ERROR")  # that rendered data are fewer than the published is known
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as root:
        if arguments.scaled_decoding:
            results = scaled_decoding_effect(root, min(arguments.images, BATCH))
        else:
            for height, width in SIZES:
                results |= compare(height, width, arguments.images, arguments.rounds, root)
    print_json(results)


if __name__ == "__main__":
    main()
