"""Claim: an exported ONNX file gives PyTorch's features, and on a CPU it is at least as fast; int8 has a quarter of
the size, and a ViT about three times the speed.

Each precision of ONNX (`--precisions`), and PyTorch, take turns on the same images and number of threads. Beside the
times: size of the file, and how far its features are from PyTorch's (random images). With a trained model, also mAP
and rank-1 of each on a small rendered set.

    python benchmarks/export.py                                   # ViT-B/16, 256 x 128, random weights
    python benchmarks/export.py --architecture RN50 --threads 1
    python benchmarks/export.py --checkpoint output/demo/best.pt  # a trained model
"""

import argparse
import tempfile
from pathlib import Path

import torch
from common import print_json

import reid_core as reid
from reid_core.config import CfgNode
from reid_core.data.rendering import RenderingOptions, render_dataset
from reid_core.inference.export import PRECISIONS, ExportOptions, export_model
from reid_core.inference.export_comparison import compare_scores, compare_speed, speed_table
from reid_core.inference.exported_model import ExportedModel
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.projects import load_config


def untrained(architecture: str) -> tuple[CfgNode, MetaArchitecture]:
    torch.manual_seed(0)
    cfg = load_config(None, ["MODEL.BACKBONE.PRETRAINED", "", "MODEL.BACKBONE.ARCHITECTURE", architecture])
    return cfg, build_model(cfg, "cpu", 0, 1, 1).eval()


def scores_on_rendered(
    model: MetaArchitecture, files: dict[str, ExportedModel], cfg: CfgNode, identities: int
) -> dict[str, float]:
    height, width = cfg.INPUT.SIZE_TEST
    options = RenderingOptions(
        layout="market1501", height=height, width=width, train_identities=2, test_identities=identities
    )
    cfg, results = cfg.clone(), {}
    with tempfile.TemporaryDirectory() as root:
        render_dataset(root, options, workers=2)
        cfg.merge_from_list(["DATASETS.ROOT", root, "DATASETS.TEST", "['Market1501']"])
        for name, file in files.items():
            scores = compare_scores(model, file, cfg)["Market1501"]
            results |= {f"{name}_{metric}": float(scores["exported"][metric]) for metric in ("mAP", "rank1")}
        results |= {f"pytorch_{metric}": float(scores["pytorch"][metric]) for metric in ("mAP", "rank1")}
    print("rendered: " + ", ".join(f"{key} {value:.2f}" for key, value in results.items()))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="ViT-B-16", help="with random weights")
    parser.add_argument("--checkpoint", help="or a model folder, instead")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--identities", type=int, default=6, help="of the rendered set")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.checkpoint:
        trained = reid.load(arguments.checkpoint, "cpu")
        cfg, model = trained.cfg, trained.model
    else:
        cfg, model = untrained(arguments.architecture)
    results, files = {"threads": torch.get_num_threads()}, {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in arguments.precisions:
            path = Path(folder) / f"{precision}.onnx"
            agreement = export_model(model, cfg, path, ExportOptions(precision=precision))
            files[precision] = ExportedModel(path)
            results |= {f"{precision}_{name}": value for name, value in agreement._asdict().items()}
            results[f"{precision}_megabytes"] = path.stat().st_size / 1e6
            print(f"{precision}: {results[f'{precision}_megabytes']:.0f} MB, {agreement}")
    times = compare_speed(model, files, arguments.batches, arguments.rounds)
    print(speed_table(times))
    for count, seconds in times.items():
        results |= {f"batch{count}_{name}_images_per_second": count / value for name, value in seconds.items()}
        results |= {f"batch{count}_{name}_ratio_to_pytorch": seconds["pytorch"] / seconds[name] for name in files}
    if arguments.checkpoint:
        results |= scores_on_rendered(model, files, cfg, arguments.identities)
    print_json(results)


if __name__ == "__main__":
    main()
