#!/usr/bin/env python
"""Pack a checkpoint as a model folder: python tools/pack_model.py output/run/best.pt output/model"""

import sys

from reid_core.commands.pack_model import main

if __name__ == "__main__":
    sys.exit(main())
