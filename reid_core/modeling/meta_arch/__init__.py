"""Meta-architectures: whole models, with their losses."""

from reid_core.modeling.meta_arch.base import MetaArchitecture
from reid_core.modeling.meta_arch.baseline import Baseline
from reid_core.modeling.meta_arch.build import build_model

__all__ = ["Baseline", "MetaArchitecture", "build_model"]
