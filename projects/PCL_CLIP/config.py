"""The method's config keys."""

from reid_core.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Keys of the prototypical contrastive loss; the defaults are the published values."""
    node = cfg.PCL = CfgNode()
    node.LOSS_WEIGHT = 1.0  # weight of the prototypical contrastive loss
    node.ID_LOSS_WEIGHT = 0.25  # weight of the identity loss; 0: prototypical contrastive loss alone ("PCL only")
    node.TEMPERATURE = 0.05  # divides the cosine similarities before the softmax
    node.MOMENTUM = 0.2  # share of the old prototype kept at an update, in [0, 1]
    node.UPDATE_RULE = "hard"  # "hard": each identity's least similar sample of the batch; "plain": every sample
