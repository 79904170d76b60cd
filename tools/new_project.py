#!/usr/bin/env python
"""Make a project folder for a method of your own: python tools/new_project.py my_method"""

import sys

from reid_core.commands.new_project import main

if __name__ == "__main__":
    sys.exit(main())
