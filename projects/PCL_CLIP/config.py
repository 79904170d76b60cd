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

    proxy = node.PROXY = CfgNode()  # camera-aware proxies (unsupervised): what one camera saw of a cluster
    proxy.INTRA_WEIGHT = 0.0  # weight of the loss among the proxies of the image's own camera (CAP)
    proxy.OFFLINE_WEIGHT = 0.0  # weight of the loss towards all proxies of the image's cluster (CAP, O2CAP)
    proxy.ONLINE_WEIGHT = 0.0  # weight of the loss towards the nearest proxies of the nearest cameras (O2CAP)
    proxy.TEMPERATURE = 0.07  # divides similarities to proxies
    proxy.MOMENTUM = 0.2  # share of the old proxy kept at an update, in [0, 1]
    proxy.NUM_NEGATIVES = 50  # most similar other proxies in the softmax of the offline and online losses
    proxy.NUM_POSITIVES = 3  # cameras whose best proxy counts as positive in the online loss
    proxy.BALANCE = 0.15  # share of the image's own similarity in the online loss, the rest is its proxy's, in [0, 1]

    clustering = node.CLUSTERING = CfgNode()  # pseudo labels (unsupervised): DBSCAN on k-reciprocal Jaccard distances
    clustering.EPS = 0.5  # largest Jaccard distance between neighbours, in (0, 1)
    clustering.MIN_SAMPLES = 4  # images within EPS, itself included, that make an image the core of a cluster
    clustering.K1 = 30  # nearest images, itself included, whose lists must be reciprocal
    clustering.K2 = 6  # nearest images over which codes are averaged; 1 for none
    clustering.CENTER_CAMERAS = False  # take away each camera's mean feature before clustering: for a new domain
