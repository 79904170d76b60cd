"""Pictures of a model: a report of an evaluation or of features made elsewhere, curves of several runs."""

import argparse
import sys
from pathlib import Path
from typing import TextIO

from reid_core.commands.running import command_parser, run_command
from reid_core.engine.visualization import config_for_report, report_evaluation, report_features
from reid_core.evaluation.run_curves import METRICS, OVER, read_runs, run_curves
from reid_core.evaluation.visual_report import ReportOptions
from reid_core.utils.file_io import write_atomically

_EXAMPLES = {
    "evaluation": """examples:
  %(prog)s MODEL.WEIGHTS output/run/best.pt
  %(prog)s --config-file output/run/config.yaml --output output/pictures MODEL.WEIGHTS output/run/best.pt
  %(prog)s --save-features output/features.npz MODEL.WEIGHTS output/run/best.pt
  %(prog)s --features output/features.npz --queries 10 --seed 1 MODEL.WEIGHTS output/run/best.pt
""",
    "features": """example:
  %(prog)s --query query.parquet --gallery gallery.parquet --output output/pictures
""",
    "curves": """examples:
  %(prog)s output/run_a output/run_b
  %(prog)s output/run_a output/run_b --metric mAP --metric loss_id --over step --output output/curves.png
""",
}
_HELPS = {
    "evaluation": "a report of a checkpoint on its test sets",
    "features": "a report of features made elsewhere",
    "curves": "curves of several runs over each other",
}
_DESCRIPTIONS = {
    "evaluation": "Evaluate a checkpoint and write report.html and its pictures. Without --config-file the config.yaml "
    "beside the checkpoint is read.",
    "features": "Write the same for features made elsewhere: files with the columns feature and pid and, if known, "
    "camid and path (or features, pids, ...), in any of the formats that reid-extract writes.",
    "curves": "Draw curves of several runs over each other, from the metrics.jsonl in their OUTPUT_DIRs.",
}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    first = "".join(f"  %(prog)s {name}{_first_example(name)}\n" for name in _EXAMPLES)
    parser = command_parser(__doc__, f"examples:\n{first}")
    commands = parser.add_subparsers(dest="command", required=True)
    added = {
        name: commands.add_parser(
            name,
            help=_HELPS[name],
            description=_DESCRIPTIONS[name],
            epilog=_EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name in _EXAMPLES
    }
    evaluation, features, curves = added.values()
    evaluation.add_argument("--config-file", help="default: the config.yaml beside the checkpoint")
    evaluation.add_argument("--output", type=Path, help="folder (default: <checkpoint>_report beside the checkpoint)")
    evaluation.add_argument("--save-features", type=Path, metavar="FILE", help="write the features to this .npz file")
    evaluation.add_argument("--features", type=Path, metavar="FILE", help="read them there instead of encoding images")
    features.add_argument("--query", type=Path, required=True, metavar="FILE")
    features.add_argument("--gallery", type=Path, required=True, metavar="FILE")
    features.add_argument("--output", type=Path, required=True, help="folder")
    features.add_argument("--metric", choices=("euclidean", "cosine"), default="euclidean", help="default: euclidean")
    features.add_argument("--keep-lengths", action="store_true", help="do not scale features to unit length")
    for command in (evaluation, features):
        _add_options(command)
    evaluation.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY value", help="config keys to change")
    curves.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="an OUTPUT_DIR, or its metrics.jsonl")
    curves.add_argument(
        "--metric", action="append", default=[], help=f"repeat it for more (default: {', '.join(METRICS)})"
    )
    curves.add_argument("--over", choices=OVER, default="epoch", help="default: epoch, with means of each epoch's rows")
    curves.add_argument("--output", type=Path, default=Path("curves.png"), help="a PNG (default: %(default)s)")
    return parser.parse_args(argv)


def _add_options(command: argparse.ArgumentParser) -> None:
    """Those of ReportOptions."""
    default = ReportOptions()
    helps = {
        "queries": "ranked lists of so many of the best queries, and of the worst",
        "length": "gallery images of a ranked list",
        "identities": "identities drawn by t-SNE",
        "images": "images of each of them at most",
        "seed": "of what is drawn at random",
    }
    for name, words in helps.items():
        value = getattr(default, name)
        command.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"{words} (default: {value})")


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _draw(arguments, out))


def _draw(arguments: argparse.Namespace, out: TextIO) -> None:
    for path in _write_pictures(arguments):
        out.write(f"{path}\n")


def _write_pictures(arguments: argparse.Namespace) -> list[Path]:
    """Returns what was written."""
    if arguments.command == "curves":
        write_atomically(arguments.output, run_curves(read_runs(arguments.runs), arguments.metric, arguments.over))
        return [arguments.output]
    options = ReportOptions(**{name: getattr(arguments, name) for name in vars(ReportOptions())})
    if arguments.command == "features":
        normalize = not arguments.keep_lengths
        sides = arguments.query, arguments.gallery
        return [report_features(*sides, arguments.output, arguments.metric, normalize, options)]
    cfg = config_for_report(arguments.config_file, arguments.overrides)
    return report_evaluation(cfg, arguments.output, options, arguments.save_features, arguments.features)


def _first_example(name: str) -> str:
    return _EXAMPLES[name].splitlines()[1].split("%(prog)s", 1)[1]


if __name__ == "__main__":
    sys.exit(main())
