"""Pack a checkpoint as a model folder, which holds all that loading it needs."""

import argparse
import sys
from typing import TextIO

from reid_core.commands.running import add_project_argument, command_parser, run_command
from reid_core.inference import push_model_folder, save_model_folder

_EXAMPLES = """examples:
  %(prog)s output/run/best.pt output/model
  %(prog)s output/run/best.pt output/model --name "Market, ViT-B/16" --license apache-2.0 --push user/name
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    parser.add_argument("checkpoint", help="a checkpoint of a run, such as best.pt")
    parser.add_argument("folder", help="made, or replaced if it is an earlier model folder")
    add_project_argument(parser)
    parser.add_argument("--name", help="of the model in its card; default: the folder's")
    parser.add_argument("--license", help="the hub's identifier, such as apache-2.0; default: left open")
    parser.add_argument("--push", metavar="USER/NAME", help="then upload it to the Hugging Face hub, private")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _pack(arguments, out))


def _pack(arguments: argparse.Namespace, out: TextIO) -> None:
    folder = save_model_folder(
        arguments.checkpoint, arguments.folder, arguments.project, arguments.name, arguments.license
    )
    out.write(f"{folder}\n")
    if arguments.push:
        out.write(f"{push_model_folder(folder, arguments.push)}\n")


if __name__ == "__main__":
    sys.exit(main())
