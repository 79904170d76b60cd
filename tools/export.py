#!/usr/bin/env python
"""Export a trained model: python tools/export.py output/run/best.pt output/model.onnx"""

import sys

from reid_core.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
