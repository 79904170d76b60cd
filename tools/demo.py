#!/usr/bin/env python
"""Train and evaluate on rendered data: python tools/demo.py --config-file projects/PCL_CLIP/configs/rendered.yml"""

import sys

from reid_core.commands.demo import main

if __name__ == "__main__":
    sys.exit(main())
