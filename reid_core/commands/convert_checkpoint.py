"""Convert a checkpoint of a published program, or CLIP weights, for this toolkit: see docs/converting.md."""

import argparse
import sys
from typing import TextIO

from reid_core.commands.running import command_parser, run_command
from reid_core.inference.conversion import convert_checkpoint, convert_clip_weights
from reid_core.projects import load_config

_EXAMPLES = """examples:
  %(prog)s ViT-B-16_60.pth output/converted.pt --config-file projects/A_METHOD/configs/market.yml
  %(prog)s ViT-B-16_60.pth output/converted.pt --config-file ... MODEL.BACKBONE.SIE_CAMERA True
  %(prog)s ViT-B-16.pt output/clip.safetensors --from clip MODEL.BACKBONE.ARCHITECTURE ViT-B-16-quickgelu

The output is a checkpoint for MODEL.WEIGHTS (--eval-only, or to train from), its config beside it (.yaml). With
--from clip it is a safetensors file for MODEL.BACKBONE.PRETRAINED, which also reads the original: a CLIP is what a run
starts from, no trained model, so it becomes no checkpoint.
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    parser.add_argument("source", help="state dict saved by torch, safetensors, or TorchScript archive")
    parser.add_argument("output", help="the checkpoint (.pt) or, of CLIP weights, the .safetensors file to write")
    parser.add_argument("--config-file", help="of the program and the run that the source is from; not of CLIP weights")
    parser.add_argument(
        "--from", dest="converter", default="", metavar="NAME",
        help="a registered converter, or clip; default: the one for the config's MODEL.META_ARCHITECTURE",
    )  # fmt: skip
    parser.add_argument("--num-cameras", type=int, default=0, metavar="N", help="where the source does not tell")
    parser.add_argument("--num-views", type=int, default=0, metavar="N", help="viewpoints, where it does not tell")
    parser.add_argument(
        "--training-data",
        action="store_true",
        help="read DATASETS.TRAIN: its identities, in rising order, are those of the source's classifiers and prompts; "
        "without it these are left out when training goes on",
    )
    parser.add_argument("--report", metavar="FILE", help="default: the output's name with .report.txt")
    parser.add_argument("--overwrite", action="store_true", help="replace output, config and report")
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="also read a file that holds more than tensors and plain values. THIS RUNS CODE FROM THE FILE: only for a "
        "file that you trust as a program",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.converter == "clip" and arguments.unsafe:
        parser.error("--unsafe is not for CLIP weights: those are tensors in every published form")
    if arguments.converter != "clip" and not arguments.config_file:
        parser.error("--config-file is needed: it says which model the source is of")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _convert(arguments, out))


def _convert(arguments: argparse.Namespace, out: TextIO) -> None:
    cfg = load_config(arguments.config_file, arguments.overrides)
    common = {"overwrite": arguments.overwrite, "report_path": arguments.report}
    if arguments.converter == "clip":
        report = convert_clip_weights(arguments.source, arguments.output, cfg, **common)
    else:
        report = convert_checkpoint(
            arguments.source, arguments.output, cfg, arguments.converter, arguments.num_cameras,
            arguments.num_views, arguments.training_data, arguments.unsafe, **common,
        )  # fmt: skip
    out.write(f"{report.text()}\n{arguments.output}\n")


if __name__ == "__main__":
    sys.exit(main())
