#!/usr/bin/env python
"""Score features made anywhere: python tools/evaluate_features.py query.parquet gallery.parquet"""

import sys

from reid_core.commands.evaluate_features import main

if __name__ == "__main__":
    sys.exit(main())
