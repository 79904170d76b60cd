#!/usr/bin/env python
"""Train and evaluate on rendered data: python tools/demo.py --config-file projects/PCL_CLIP/configs/rendered.yml"""

import argparse
import sys
from pathlib import Path

from reid_core.engine.demo import run_demo
from reid_core.engine.hooks.interrupt import Interrupted
from reid_core.engine.launch import USER_ERRORS
from reid_core.projects import load_config
from reid_core.utils.logging import get_logger, setup_logger


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="a config of a project")
    parser.add_argument("--seed", type=int, default=0, help="of the rendered data and of the training")
    parser.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY value", help="config keys to change")
    arguments = parser.parse_args()
    setup_logger()
    try:
        seed = ["SEED", str(arguments.seed)]
        cfg = load_config(arguments.config_file, ["OUTPUT_DIR", "output/demo", *seed, *arguments.overrides])
        setup_logger(Path(cfg.OUTPUT_DIR))
        rows = run_demo(cfg, arguments.seed)
    except Interrupted as stop:
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        return 130
    except USER_ERRORS as error:
        get_logger().error("%s", error)
        get_logger().debug("traceback", exc_info=error)
        return 2
    before = list(rows)[-2]
    print(f"mAP {before} {rows[before]['mAP']:.1f} %, trained {rows['trained']['mAP']:.1f} %", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
