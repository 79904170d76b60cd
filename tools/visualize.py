#!/usr/bin/env python
"""Draw what a model finds and misses: python tools/visualize.py evaluation MODEL.WEIGHTS output/run/best.pt"""

import sys

from reid_core.commands.visualize import main

if __name__ == "__main__":
    sys.exit(main())
