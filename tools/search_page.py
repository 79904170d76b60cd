#!/usr/bin/env python
"""Search in the browser: python tools/search_page.py --model output/run/best.pt --gallery Market1501"""

import sys

from reid_core.commands.search_page import main

if __name__ == "__main__":
    sys.exit(main())
