#!/usr/bin/env python
"""Extract features: python tools/extract_features.py output/run/best.pt images/ output/features.parquet"""

import sys

from reid_core.commands.extract_features import main

if __name__ == "__main__":
    sys.exit(main())
