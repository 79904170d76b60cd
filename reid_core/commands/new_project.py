"""Make a project folder for a method of your own: it trains at once and has its test."""

import argparse
import sys
from typing import TextIO

from reid_core.commands.running import command_parser, run_command
from reid_core.engine.new_project import make_project

_EXAMPLES = """examples:
  %(prog)s my_method
  %(prog)s my_method --folder ../experiments
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    parser.add_argument("name", help="of the project: its folder, importable by Python, such as my_method")
    parser.add_argument("--folder", default="projects", help="in which it is made (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _make(arguments, out))


def _make(arguments: argparse.Namespace, out: TextIO) -> None:
    path = make_project(arguments.name, arguments.folder).as_posix()
    out.write(
        f"{path} is made. Test it, then train it on rendered data:\n  python -m pytest {path}/tests\n"
        f"  reid-demo --config-file {path}/configs/rendered.yml\n"
    )


if __name__ == "__main__":
    sys.exit(main())
