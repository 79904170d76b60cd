#!/usr/bin/env python
"""Convert a published checkpoint: python tools/convert_checkpoint.py theirs.pth output/ours.pt --config-file ..."""

import sys

from reid_core.commands.convert_checkpoint import main

if __name__ == "__main__":
    sys.exit(main())
