"""Optimisers and learning-rate schedules; sees parameters and names, not models."""

from reid_core.solver.optimizer import build_optimizer
from reid_core.solver.schedule import build_schedule

__all__ = ["build_optimizer", "build_schedule"]
