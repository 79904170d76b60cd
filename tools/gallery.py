#!/usr/bin/env python
"""Build and search a gallery: python tools/gallery.py build output/gallery output/features.parquet"""

import sys

from reid_core.commands.gallery import main

if __name__ == "__main__":
    sys.exit(main())
