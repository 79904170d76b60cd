#!/usr/bin/env python
"""Render a ReID dataset: python tools/render_dataset.py --root datasets --layout market1501"""

import sys

from reid_core.commands.render_dataset import main

if __name__ == "__main__":
    sys.exit(main())
