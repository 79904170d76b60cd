"""The method's config keys."""

from reid_core.config import CfgNode, overriding


def add_config(cfg: CfgNode) -> None:
    """Keys of both stages; the defaults are the published values for persons. Stage 2 is configured by SOLVER."""
    node = cfg.CLIP_REID = CfgNode()
    node.TEMPLATE = "auto"  # the prompt, a word X for each learned token; "auto": by the kind of the training datasets
    node.TEMPERATURE = 1.0  # divides the dot products of stage 1
    node.IMAGE_TO_TEXT_WEIGHT = 1.0  # weight of the image-to-text cross-entropy in stage 2
    node.KEEP_TEXT = False  # keep prompts and text encoder in memory and checkpoints after stage 1, for inspection

    stage = cfg.STAGES.PROMPTS = CfgNode()
    stage.BATCH_SIZE = 64  # image features in a step of stage 1, over all processes
    stage.CHECKPOINT_PERIOD = 10  # epochs between checkpoints: they are short, and hold the whole model
    stage.SOLVER = overriding(  # null: as in SOLVER
        cfg.SOLVER,
        OPTIMIZER="Adam",
        BASE_LR=3.5e-4,
        WEIGHT_DECAY=1e-4,
        MAX_EPOCHS=120,
        ITERATIONS_PER_EPOCH=0,
        SCHEDULE="WarmupCosine",
        SCHEDULE_AT="epoch_start",
        WARMUP_EPOCHS=5,
        WARMUP_LR=1e-5,
        MIN_LR=1e-6,
    )
