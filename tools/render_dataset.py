#!/usr/bin/env python
"""Render a ReID dataset: persons or vehicles seen by several cameras, in a real dataset's layout."""

import argparse
import sys
import time
from dataclasses import MISSING, fields
from pathlib import Path

from reid_core.data.rendering import LAYOUTS, RenderingOptions, render_dataset, write_contact_sheet

EXAMPLE = """example:
  %(prog)s --root datasets --layout market1501 --train-identities 200 --seed 1 --contact-sheet output/sheet.png
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    arguments = vars(parser.parse_args())
    try:
        options = RenderingOptions(**{field.name: arguments[field.name] for field in fields(RenderingOptions)})
        began = time.perf_counter()
        folder = render_dataset(arguments["root"], options, arguments["workers"], arguments["overwrite"])
        print(f"{folder} ({time.perf_counter() - began:.1f} s)")
        if arguments["contact_sheet"]:
            write_contact_sheet(arguments["contact_sheet"], options)
            print(arguments["contact_sheet"])
    except (ValueError, LookupError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
