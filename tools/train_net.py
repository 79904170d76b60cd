#!/usr/bin/env python
"""Train or evaluate: python tools/train_net.py --config-file projects/PCL_CLIP/configs/msmt.yml"""

import sys

from reid_core.engine.launch import main

if __name__ == "__main__":
    sys.exit(main())
