"""Show what is in a dataset: counts, image sizes, broken files, test images that are training images, a picture."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from reid_core.commands.running import command_parser, run_command
from reid_core.data.datasets import build_dataset
from reid_core.data.datasets.base import SPLITS
from reid_core.data.inspection import inspect_dataset, write_dataset_sheet
from reid_core.projects import load_config

_EXAMPLES = """examples:
  %(prog)s --dataset Market1501 --contact-sheet output/market.png DATASETS.ROOT /data/reid
  %(prog)s --dataset Manifest:shop/crops.csv DATASETS.ROOT /data
  %(prog)s --dataset ImageFolder:/data/shop DATASETS.OWN_DATA.PATTERN '_c(?P<camid>[0-9]+)'
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    parser.add_argument(
        "--dataset", required=True, metavar="NAME", help="a registered dataset, Manifest:<file> or ImageFolder:<folder>"
    )
    parser.add_argument("--config-file", help="a config whose DATASETS keys (and project's datasets) count")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="threads that read images (default: one a core)"
    )
    parser.add_argument("--names-only", action="store_true", help="do not read the images")
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG", help="also draw identities by cameras into a PNG")
    parser.add_argument("--split", choices=SPLITS, default="train", help="of the contact sheet (default: train)")
    parser.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY value", help="config keys to change")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _inspect(arguments, out))


def _inspect(arguments: argparse.Namespace, out: TextIO) -> None:
    cfg = load_config(arguments.config_file, arguments.overrides)
    began = time.perf_counter()
    dataset = build_dataset(cfg, arguments.dataset)
    inspection = inspect_dataset(dataset, arguments.workers, read_images=not arguments.names_only)
    out.write(f"{inspection.text()}\n\n{time.perf_counter() - began:.1f} s\n")
    if arguments.contact_sheet:
        write_dataset_sheet(arguments.contact_sheet, dataset, arguments.split)
        out.write(f"{arguments.contact_sheet}\n")


if __name__ == "__main__":
    sys.exit(main())
