"""The method's config keys."""

from reid_core.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Keys of the two self-supervision terms; the defaults are the published values."""
    node = cfg.SVLL = CfgNode()
    node.LANGUAGE_TERM = True  # stage 1: self-supervision of the prompts; both terms False: the method without them
    node.LANGUAGE_WEIGHT = 0.8  # its weight; VeRi-776: 2.0
    node.PROMPT_AUGMENTATION = "mask"  # how two versions of a prompt are made: "mask", "swap" or "mix"
    node.PROMPT_AUGMENTATION_SCALE = 0.5  # share masked, share of the tokens swapped, or share of the other prompt
    node.TRAIN_TEXT_PROJECTOR = False  # train the text projector too; published: it keeps its random weights
    node.VISION_TERM = True  # stage 2: self-supervision of the images; needs INPUT.EXTRA_VIEWS 2
    node.VISION_WEIGHT = 0.8  # its weight
    node.VISION_LOSS = "simclr"  # "simclr": projector and contrastive loss; "simsiam": predictor and stopped gradient
    node.TEMPERATURE = 0.1  # divides the cosine similarities before the softmax, in both terms
    node.PROJECTOR_HIDDEN_WIDTH = 4096  # of the two hidden layers of the text and the image projector
    node.PROJECTOR_OUTPUT_WIDTH = 256  # of the features that are contrasted
    node.PREDICTOR_HIDDEN_WIDTH = 512  # of the hidden layer of the "simsiam" predictor
