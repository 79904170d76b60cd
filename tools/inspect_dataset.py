#!/usr/bin/env python
"""Show what is in a dataset: counts, image sizes, broken files, test images that are training images, a picture."""

import argparse
import os
import sys
import time
from pathlib import Path

from reid_core.data.datasets import build_dataset
from reid_core.data.datasets.base import SPLITS
from reid_core.data.inspection import inspect_dataset, write_dataset_sheet
from reid_core.engine.launch import USER_ERRORS
from reid_core.projects import load_config
from reid_core.utils.logging import get_logger, setup_logger

EXAMPLE = """examples:
  %(prog)s --dataset Market1501 --contact-sheet output/market.png DATASETS.ROOT /data/reid
  %(prog)s --dataset Manifest:shop/crops.csv DATASETS.ROOT /data
  %(prog)s --dataset ImageFolder:/data/shop DATASETS.OWN_DATA.PATTERN '_c(?P<camid>[0-9]+)'
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    arguments = parser.parse_args()
    setup_logger()
    try:
        cfg = load_config(arguments.config_file, arguments.overrides)
        began = time.perf_counter()
        dataset = build_dataset(cfg, arguments.dataset)
        inspection = inspect_dataset(dataset, arguments.workers, read_images=not arguments.names_only)
        print(inspection.text())
        print(f"\n{time.perf_counter() - began:.1f} s")
        if arguments.contact_sheet:
            write_dataset_sheet(arguments.contact_sheet, dataset, arguments.split)
            print(arguments.contact_sheet)
    except USER_ERRORS as error:
        get_logger().error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
