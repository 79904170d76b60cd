"""Render a dataset, train a model on it, evaluate before and after, and write a report."""

import argparse
import sys
from pathlib import Path
from typing import TextIO

from reid_core.commands.running import command_parser, run_command
from reid_core.engine.demo import run_demo
from reid_core.projects import load_config
from reid_core.utils.logging import setup_logger

_EXAMPLES = """examples:
  %(prog)s --config-file projects/A_METHOD/configs/rendered.yml
  %(prog)s --config-file projects/A_METHOD/configs/rendered.yml --seed 1 OUTPUT_DIR output/demo_1
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    parser.add_argument("--config-file", required=True, help="a config of a project")
    parser.add_argument("--seed", type=int, default=0, help="of the rendered data and of the training")
    parser.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY value", help="config keys to change")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _demonstrate(arguments, out))


def _demonstrate(arguments: argparse.Namespace, out: TextIO) -> None:
    keys = ["OUTPUT_DIR", "output/demo", "SEED", str(arguments.seed), *arguments.overrides]
    cfg = load_config(arguments.config_file, keys)
    setup_logger(Path(cfg.OUTPUT_DIR))
    rows = run_demo(cfg, arguments.seed)
    before = list(rows)[-2]
    out.write(f"mAP {before} {rows[before]['mAP']:.1f} %, trained {rows['trained']['mAP']:.1f} %\n")


if __name__ == "__main__":
    sys.exit(main())
