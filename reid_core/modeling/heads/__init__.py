"""Heads: what stands between a backbone's features and the losses."""

from reid_core.modeling.heads.bnneck import BNNeck, BNNeckHeads, identity_classifier
from reid_core.modeling.heads.projector import Predictor, Projector

__all__ = ["BNNeck", "BNNeckHeads", "Predictor", "Projector", "identity_classifier"]
