"""Heads: what stands between a backbone's features and the losses."""

from reid_core.modeling.heads.bnneck import BNNeck, BNNeckHeads, identity_classifier

__all__ = ["BNNeck", "BNNeckHeads", "identity_classifier"]
