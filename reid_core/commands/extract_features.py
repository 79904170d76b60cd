"""Features of a folder of images, of a list, or of the crops of a video."""

import argparse
import sys
from pathlib import Path
from typing import TextIO

from reid_core.commands.running import add_loading_arguments, command_parser, processes, run_command
from reid_core.data.bad_images import POLICIES
from reid_core.data.feature_files import SUFFIXES, check_suffix
from reid_core.inference.extraction import SHARD_SIZE, ExtractionOptions, extract_features
from reid_core.inference.image_sources import ImageSource, open_images
from reid_core.inference.loading import load
from reid_core.inference.video_crops import VideoCrops

_EXAMPLES = """examples:
  %(prog)s output/run/best.pt images/ output/features.parquet
  %(prog)s user/name crops.csv output/features.npz --device cuda --precision auto
  %(prog)s best.pt market/query query.parquet --pattern '(?P<pid>-?[0-9]+)_c(?P<camid>[0-9]+)'
  %(prog)s best.pt film.mp4 tracks.h5 --boxes boxes.csv
  torchrun --nproc-per-node 4 tools/extract_features.py best.pt images/ output/features.parquet

An interrupted command goes on where it stopped when it is repeated; what it had written is in OUTPUT.parts/.
"""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments of the command."""
    parser = command_parser(__doc__, _EXAMPLES)
    parser.add_argument("model", help="a checkpoint, a model folder, or user/name on the Hugging Face hub")
    parser.add_argument(
        "source",
        help="a folder; a manifest (.csv, .tsv, .jsonl, .ndjson, .parquet with a column path); a .txt file with a path "
        "on each line; or, with --boxes, a video",
    )
    parser.add_argument("output", help=f"the file to write: {', '.join(SUFFIXES)}")
    parser.add_argument("--pattern", default="", help="of a folder's paths: groups pid, camid, viewid")
    parser.add_argument(
        "--boxes", metavar="FILE", help="of a video: a table with frame, x, y, w, h [, track, pid, camid]"
    )
    parser.add_argument("--first-frame", type=int, default=0, metavar="N", help="number of the first frame in --boxes")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the features as written")
    parser.add_argument("--flip", action="store_true", help="add the features of the mirror image")
    parser.add_argument("--batch-size", type=int, help="default: one that suits the device")
    parser.add_argument("--workers", type=int, default=4, help="threads that decode (default: %(default)s)")
    add_loading_arguments(parser)
    parser.add_argument(
        "--on-bad-image", choices=POLICIES, default="raise", help="skip: leave it out, count and list it"
    )
    parser.add_argument("--shard-size", type=int, default=SHARD_SIZE, metavar="N", help="default: %(default)s images")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished output")
    parser.add_argument("--restart", action="store_true", help="do not go on with an interrupted run")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    arguments = parse_arguments(argv)
    return run_command(lambda out: _extract(arguments, out))


def _extract(arguments: argparse.Namespace, out: TextIO) -> None:
    check_suffix(Path(arguments.output))
    options = ExtractionOptions(
        arguments.batch_size,
        arguments.flip,
        arguments.workers,
        arguments.dtype == "float16",
        arguments.shard_size,
        arguments.on_bad_image,
    )
    with processes():
        source = _source(arguments)
        model = load(
            arguments.model, arguments.device, arguments.project, arguments.precision, revision=arguments.revision
        )
        report = extract_features(model, source, arguments.output, options, arguments.overwrite, arguments.restart)
    if report is not None:
        skipped = f", {len(report.skipped)} skipped" if report.skipped else ""
        out.write(f"{arguments.output}: features [{report.images}, {report.width}]{skipped}\n")


def _source(arguments: argparse.Namespace) -> ImageSource:
    if arguments.boxes is None:
        return open_images(arguments.source, arguments.pattern)
    if arguments.pattern:
        raise ValueError("--pattern is for folders of images, not for the boxes of a video.")
    return VideoCrops(arguments.source, arguments.boxes, arguments.first_frame)


if __name__ == "__main__":
    sys.exit(main())
