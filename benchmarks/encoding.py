"""Claim: with weights that are converted once, encoding in 16 bits is as good as autocast and never slower.

Three ways through one model, taking turns: float32; autocast, which converts the weights in every pass; ours, weights
converted once and then autocast (`precision="bfloat16"` of `reid_core.load`, TEST.PRECISION of an evaluation). The
share of the matrix rate is that of torch.mm in the same run. Then a small rendered set: cosine similarity of the
16-bit features to those of float32, and mAP and rank-1 of both.

    python benchmarks/encoding.py                                  # ViT-B/16, 256 x 128, random weights
    python benchmarks/encoding.py --batches 1 16 64 --threads 1
    python benchmarks/encoding.py --checkpoint output/demo/best.pt # a trained model
"""

import argparse
import copy
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from common import best_times, matrix_rate, print_json
from torch.utils.flop_counter import FlopCounterMode

import reid_core as reid
from reid_core.config import CfgNode
from reid_core.data.rendering import RenderingOptions, render_dataset
from reid_core.evaluation import build_evaluator
from reid_core.inference import ReIDModel
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.modeling.precision import convert_weights, native_16bit_dtype
from reid_core.projects import load_config
from reid_core.registry import DATASET_REGISTRY
from reid_core.utils.device import resolve_device


def untrained(device: torch.device) -> tuple[CfgNode, MetaArchitecture]:
    torch.manual_seed(0)
    cfg = load_config(None, ["MODEL.BACKBONE.PRETRAINED", ""])
    return cfg, build_model(cfg, device, 0, 1, 1).eval()


def passes(model: MetaArchitecture, converted: MetaArchitecture, images: torch.Tensor, dtype: torch.dtype) -> dict:
    """The three ways, by name."""
    batch, kind = {"images": images}, images.device.type

    def run(model: MetaArchitecture, enabled: bool) -> Callable[[], torch.Tensor]:
        @torch.inference_mode()
        def forward() -> torch.Tensor:
            with torch.autocast(kind, dtype, enabled=enabled):
                return model(batch)

        return forward

    return {"float32": run(model, False), "autocast": run(model, True), "ours": run(converted, True)}


def compare_speed(model: MetaArchitecture, dtype: torch.dtype, arguments: argparse.Namespace, size: list) -> dict:
    results = {}
    converted = copy.deepcopy(model)
    convert_weights(converted, dtype)
    rate = matrix_rate(dtype, model.device)
    print(f"torch.mm in {str(dtype).removeprefix('torch.')}: {rate / 1e9:.0f} GFLOP/s")
    columns = ("float32", "autocast", "ours", "ours / float32", "ours / autocast", "ours, of mm")
    print("images/s".ljust(10) + "".join(f"{column:>17}" for column in columns))
    for count in arguments.batches:
        images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, device=model.device)
        ways = passes(model, converted, images, dtype)
        with FlopCounterMode(display=False) as counter:
            ways["float32"]()
        seconds = best_times(ways, arguments.repeats)
        rates = {name: count / duration for name, duration in seconds.items()}
        ratios = [rates["ours"] / rates[name] for name in ("float32", "autocast")]
        share = counter.get_total_flops() / seconds["ours"] / rate
        row = "".join(f"{value:17.2f}" for value in (*rates.values(), *ratios))
        print(f"batch {count}".ljust(10) + f"{row}{share:17.0%}")
        results |= {f"batch{count}_{name}_images_per_second": value for name, value in rates.items()}
        results |= {f"batch{count}_ratio_to_float32": ratios[0], f"batch{count}_ratio_to_autocast": ratios[1]}
        results[f"batch{count}_share_of_matrix_rate"] = share
    return results


def compare_quality(models: dict[str, ReIDModel], identities: int) -> dict[str, float]:
    """Features of a rendered set by both, compared and scored."""
    cfg = next(iter(models.values())).cfg.clone()
    height, width = cfg.INPUT.SIZE_TEST
    options = RenderingOptions(
        layout="market1501", height=height, width=width, train_identities=2, test_identities=identities
    )
    results, features = {}, {}
    with tempfile.TemporaryDirectory() as root:
        render_dataset(root, options, workers=2)
        cfg.DATASETS.ROOT = root
        dataset = DATASET_REGISTRY.build("Market1501", cfg)
        for name, model in models.items():
            sides = [model.encode([record.path for record in split]) for split in (dataset.query, dataset.gallery)]
            features[name] = np.concatenate(sides)
            scores = build_evaluator(cfg, dataset).evaluate(*sides)
            results |= {f"{name}_{metric}": float(scores[metric]) for metric in ("mAP", "rank1")}
    cosines = (features["float32"] * features["ours"]).sum(axis=1)
    results |= {"images": len(cosines), "smallest_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}
    print("rendered: " + ", ".join(f"{key} {value:.4f}" for key, value in results.items()))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="or a model folder; default: ViT-B/16 with random weights")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--identities", type=int, default=6, help="of the rendered set")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = resolve_device(arguments.device)
    dtype = native_16bit_dtype(device) or torch.bfloat16
    if arguments.checkpoint:
        loaded = reid.load(arguments.checkpoint, device)
        cfg, model = loaded.cfg, loaded.model
    else:
        cfg, model = untrained(device)
    results = {"device": str(device), "dtype": str(dtype).removeprefix("torch."), "threads": torch.get_num_threads()}
    results |= compare_speed(model, dtype, arguments, cfg.INPUT.SIZE_TEST)
    ours = ReIDModel(copy.deepcopy(model), cfg, precision=results["dtype"])
    results |= compare_quality({"float32": ReIDModel(model, cfg), "ours": ours}, arguments.identities)
    print_json(results)


if __name__ == "__main__":
    main()
