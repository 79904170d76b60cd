"""The small trained run of the inference tests."""

from tests.inference.conftest import checkpoint, gallery

__all__ = ["checkpoint", "gallery"]
