import re

from reid_core.config import get_cfg
from tests.paths import ROOT


def test_every_key_is_documented():
    source = (ROOT / "reid_core" / "config" / "defaults.py").read_text()
    keys = re.findall(r"^ +\w+\.([A-Z0-9_]+) = (?!CfgNode)(.*)$", source, re.M)
    assert len(keys) == len(get_cfg().flat_keys())
    assert not [key for key, rest in keys if "#" not in rest]


def test_two_trees_share_nothing():
    first, second = get_cfg(), get_cfg()
    first.MODEL.PIXEL_MEAN.append(9)
    first.SOLVER.BASE_LR = 1.0
    assert len(second.MODEL.PIXEL_MEAN) == 3
    assert second.SOLVER.BASE_LR != 1.0
