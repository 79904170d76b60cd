"""Render a ReID dataset: persons or vehicles seen by several cameras, in a real dataset's layout."""

import argparse
import sys
import time
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TextIO

from reid_core.commands.running import command_parser, run_command
from reid_core.data.rendering import LAYOUTS, RenderingOptions, render_dataset, write_contact_sheet

_EXAMPLES = """example:
  %(prog)s --root datasets --layout market1501 --train-identities 200 --seed 1 --contact-sheet output/sheet.png
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    parser.add_argument("--root", type=Path, required=True, help="the dataset's folder is made below it")
    parser.add_argument("--workers", type=int, default=2, help="processes; their number does not change a byte")
    parser.add_argument("--overwrite", action="store_true", help="replace what other options rendered there")
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG", help="also draw identities by cameras into a PNG")
    for field in fields(RenderingOptions):
        default = None if field.default is MISSING else field.default
        kind = int if field.name in ("height", "width") else type(default)
        choices = sorted(LAYOUTS) if field.name == "layout" else None
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=default, choices=choices, help="default %(default)s"
        )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _render(arguments, out))


def _render(arguments: argparse.Namespace, out: TextIO) -> None:
    options = RenderingOptions(**{field.name: getattr(arguments, field.name) for field in fields(RenderingOptions)})
    began = time.perf_counter()
    folder = render_dataset(arguments.root, options, arguments.workers, arguments.overwrite)
    out.write(f"{folder} ({time.perf_counter() - began:.1f} s)\n")
    if arguments.contact_sheet:
        write_contact_sheet(arguments.contact_sheet, options)
        out.write(f"{arguments.contact_sheet}\n")


if __name__ == "__main__":
    sys.exit(main())
