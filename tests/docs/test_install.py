"""The page on installing names what setup.py offers."""

import ast
import re

from tests.paths import ROOT


def test_every_extra_is_explained():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "extras_require"]
    offered = {key.value for key in found[0].keys}
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert offered == set(re.findall(r'^\| `pip install -e "\.\[([\w-]+)\]"` \| \w', page, re.M))
