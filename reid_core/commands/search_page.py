"""Search a gallery in the browser: drop an image or pick a query, see the nearest images of every model."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TextIO

from reid_core.commands.running import add_loading_arguments, command_parser, run_command
from reid_core.data.datasets import build_dataset
from reid_core.inference import load
from reid_core.inference.search_page.collection import collection_of_dataset, collection_of_folder
from reid_core.inference.search_page.searching import Searcher, load_models
from reid_core.projects import load_config

_EXAMPLES = """examples:
  %(prog)s --model output/demo/best.pt --gallery Market1501 DATASETS.ROOT /data/reid
  %(prog)s --model a/best.pt --model b/best.pt --gallery Manifest:crops.csv DATASETS.ROOT /data
  %(prog)s --model user/name --images /data/crops
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    parser.add_argument(
        "--model", action="append", required=True, help="a checkpoint, a model folder or user/name; may be repeated"
    )
    searched = parser.add_mutually_exclusive_group(required=True)
    searched.add_argument(
        "--gallery", metavar="NAME", help="of a registered dataset, Manifest:<file> or ImageFolder:<folder>"
    )
    searched.add_argument("--images", metavar="FOLDER", help="search all images below a folder instead")
    parser.add_argument("--config-file", help="a config whose DATASETS keys (and project's datasets) count")
    add_loading_arguments(parser)
    parser.add_argument("--features", default="output/search_page", metavar="FOLDER", help="where features are kept")
    parser.add_argument("--host", default="127.0.0.1", help="default %(default)s; any other asks for a token")
    parser.add_argument("--port", type=int, default=8000, help="default %(default)s; 0: a free one")
    parser.add_argument(
        "--token",
        default=os.environ.get("SEARCH_PAGE_TOKEN"),
        help="default: SEARCH_PAGE_TOKEN, or a new one where needed",
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a further name of this computer"
    )
    parser.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY value", help="config keys to change")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _serve(arguments, out))


def _serve(arguments: argparse.Namespace, out: TextIO) -> None:
    try:
        from reid_core.inference.search_page import server
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "anyio"):
            raise
        raise ImportError(f"The search page needs {error.name}: pip install -e '.[search-page]'") from error
    cfg = load_config(arguments.config_file, arguments.overrides)
    token = server.token_for(arguments.host, arguments.token)
    opened = server.bind(arguments.host, arguments.port)
    options = {"device": arguments.device, "projects": arguments.project, "precision": arguments.precision}
    models = load_models(arguments.model, partial(load, **options))
    collection = (
        collection_of_folder(arguments.images)
        if arguments.images
        else collection_of_dataset(build_dataset(cfg, arguments.gallery))
    )
    searcher = Searcher(models, collection, Path(arguments.features))
    opened.listen()  # who opens the page at once waits for the server instead of being refused
    out.write(f"The page is at {server.page_address(opened, token)} (Ctrl-C ends it)\n")
    out.flush()
    server.serve(searcher, opened, token, arguments.allow_host)


if __name__ == "__main__":
    sys.exit(main())
