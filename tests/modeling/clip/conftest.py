"""Small architectures that the tests of CLIP share."""

import pytest

from tests.paths import ROOT


@pytest.fixture(scope="session")
def small_vit() -> str:
    """A ViT of width 64, 2 layers, patches of 16, made for 64 x 64 pixels, with QuickGELU."""
    return str(ROOT / "configs" / "clip" / "test_vit.json")


@pytest.fixture(scope="session")
def small_resnet() -> str:
    return str(ROOT / "configs" / "clip" / "tiny_rn.json")
