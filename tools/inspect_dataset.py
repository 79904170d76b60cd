#!/usr/bin/env python
"""Show what is in a dataset: python tools/inspect_dataset.py --dataset Market1501 DATASETS.ROOT /data/reid"""

import sys

from reid_core.commands.inspect_dataset import main

if __name__ == "__main__":
    sys.exit(main())
