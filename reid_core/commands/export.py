"""Export a trained model as a file that other programs run."""

import argparse
import sys
from typing import TextIO

from reid_core.commands.running import add_project_argument, command_parser, run_command
from reid_core.evaluation import results_table
from reid_core.inference import load
from reid_core.inference.export import PRECISIONS, ExportOptions, export_model
from reid_core.inference.export_comparison import compare_scores, compare_speed, speed_table
from reid_core.inference.export_graph import PIXELS
from reid_core.inference.exported_model import ExportedModel

_EXAMPLES = """examples:
  %(prog)s output/run/best.pt output/model.onnx
  %(prog)s output/run/best.pt output/osnet_x0_25_mine.onnx --input imagenet        (for trackers)
  %(prog)s output/model model.onnx --precision int8 --benchmark --evaluate DATASETS.ROOT data
  %(prog)s user/name model.pt2                                                     (from the Hugging Face hub)

input:
""" + "".join(f"  {name:10}{meaning}\n" for name, meaning in PIXELS.items())


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    parser.add_argument("source", help="a checkpoint, a model folder, or user/name on the Hugging Face hub")
    parser.add_argument("output", help="file to write: .onnx, .pt2 (torch.export) or .torchscript")
    parser.add_argument("--input", choices=list(PIXELS), default="unit", help="what the file takes; default: unit")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="the others: .onnx only")
    parser.add_argument("--opset", type=int, default=ExportOptions.opset, help="of ONNX; default: %(default)s")
    parser.add_argument("--raw", action="store_true", help="features as the model gives them, not of unit length")
    parser.add_argument("--side-information", action="store_true", help="camids (and viewids) become inputs")
    parser.add_argument("--evaluate", action="store_true", help="score file and PyTorch on the config's test sets")
    parser.add_argument("--benchmark", action="store_true", help="time file and PyTorch")
    add_project_argument(parser)
    parser.add_argument("overrides", nargs="*", metavar="KEY value", help="config keys to change, for --evaluate")
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _export(arguments, out))


def _export(arguments: argparse.Namespace, out: TextIO) -> None:
    options = ExportOptions(
        arguments.input, arguments.precision, not arguments.raw, arguments.side_information, arguments.opset
    )
    trained = load(arguments.source, "cpu", arguments.project)
    cfg = trained.cfg.clone()
    cfg.merge_from_list(arguments.overrides)
    agreement = export_model(trained.model, trained.cfg, arguments.output, options)
    out.write(
        f"{arguments.output}: {options.precision}, largest difference to PyTorch {agreement.largest_difference:.2g}, "
        f"cosine {agreement.least_cosine:.6f} at least, {agreement.mean_cosine:.6f} on average\n"
    )
    exported = ExportedModel(arguments.output)
    if arguments.evaluate:
        for dataset, results in compare_scores(trained.model, exported, cfg, trained.camera_offsets).items():
            table = results_table({f"{dataset}, {side}": scores for side, scores in results.items()})
            out.write(f"{table}\n")
    if arguments.benchmark:
        out.write(f"{speed_table(compare_speed(trained.model, {'exported': exported}))}\n")


if __name__ == "__main__":
    sys.exit(main())
