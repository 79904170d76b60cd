"""Every key of the core, with its default and its meaning. A project adds its own group in its `add_config`."""

from reid_core.config.node import CfgNode


def get_cfg() -> CfgNode:
    """A fresh config tree with the core's defaults."""
    cfg = CfgNode()
    cfg.PROJECTS = []  # project folders to import beside the one that the config file lies in (paths)
    cfg.OUTPUT_DIR = "output"  # checkpoints, logs, metrics and the resolved config go here
    cfg.SEED = 1  # starts every random generator
    cfg.DEVICE = "auto"  # "auto": cuda where there is one, else cpu; or "cpu", "cuda", "cuda:1"
    cfg.TRAINER = "DefaultTrainer"  # the registered trainer; a method with another plan of stages registers its own
    cfg.STAGES = CfgNode()  # stages before the last: STAGES.<NAME>.SOLVER overrides SOLVER there; added by projects
    cfg.HOOKS = []  # names of registered hooks to add, before those that log, evaluate and save
    demo = cfg.DEMO = CfgNode()  # read by the demo alone
    demo.TRAIN_IDENTITIES = 500  # identities rendered for training
    demo.IMAGES_PER_CAMERA = 3  # pictures of each identity by each of the cameras that see it
    demo.SOURCE = ""  # config of a run on other rendered data to start from (another domain); "" for none
    _add_model(cfg)
    _add_data(cfg)
    _add_solver(cfg)
    _add_run(cfg)
    return cfg


def _add_model(cfg: CfgNode) -> None:
    model = cfg.MODEL = CfgNode()
    model.META_ARCHITECTURE = "Baseline"  # the registered model class
    model.WEIGHTS = ""  # a checkpoint of this toolkit to start from or to evaluate; "" for none
    model.PIXEL_MEAN = [0.5, 0.5, 0.5]  # per channel RGB, of values in [0, 1]; CLIP ResNets: [0.485, 0.456, 0.406]
    model.PIXEL_STD = [0.5, 0.5, 0.5]  # CLIP ResNets as adapted to ReID: [0.229, 0.224, 0.225]

    backbone = model.BACKBONE = CfgNode()
    backbone.NAME = "CLIPImageBackbone"  # the registered backbone
    backbone.ARCHITECTURE = "ViT-B-16-quickgelu"  # an open_clip model name, or a JSON file in open_clip's format
    backbone.PRETRAINED = "openai"  # an open_clip tag, a file (TorchScript archive, state dict, safetensors), or ""
    backbone.PATCH_STRIDE = 0  # step of the ViT's patch grid in pixels; 0: the patch size (no overlap)
    backbone.SIE_CAMERA = False  # side information embedding: one learned vector per camera
    backbone.SIE_VIEW = False  # the same per viewpoint; with SIE_CAMERA one per pair of them
    backbone.SIE_COEFFICIENT = 1.0  # factor of that vector
    backbone.FREEZE = []  # leading parts of parameter names that are not trained, e.g. ["conv1"]: the patch projection
    backbone.GRADIENT_CHECKPOINTING = False  # recompute each block in the backward pass: less memory, more time

    heads = model.HEADS = CfgNode()
    heads.NAME = "BNNeckHeads"  # the registered heads
    heads.BN_MOMENTUM = 0.1  # share of the new batch in the running statistics
    heads.NECK_FEATURE = "before"  # test feature taken "before" or "after" the BNNeck

    losses = model.LOSSES = CfgNode()
    losses.ID_WEIGHT = 1.0  # weight of the cross-entropy over identities
    losses.LABEL_SMOOTHING = 0.1  # share of the target spread evenly over all identities, in [0, 1)
    losses.TRIPLET_WEIGHT = 1.0  # weight of the batch-hard triplet loss
    losses.TRIPLET_MARGIN = 0.3  # margin in feature distance


def _add_data(cfg: CfgNode) -> None:
    datasets = cfg.DATASETS = CfgNode()
    datasets.ROOT = "datasets"  # folder in which the datasets' own folders lie
    datasets.TRAIN = ["Market1501"]  # registered datasets, joined for training (identities and cameras kept apart)
    datasets.TEST = ["Market1501"]  # registered datasets, each evaluated on its own
    # Both lists also take "Manifest:<file>" and "ImageFolder:<folder>", below ROOT or absolute: docs/own_data.md
    own = datasets.OWN_DATA = CfgNode()
    own.KIND = "person"  # what they show: "person" or "vehicle"
    own.PATTERN = ""  # ImageFolder: regular expression with groups camid, pid, viewid, for paths below train/
    own.UNLABELLED = False  # ImageFolder: the training images have no identities
    own.CHECK_FILES = True  # Manifest: look whether every image exists before the run
    datasets.USE_LABELS = True  # False: identities of the training images are not used (methods that cluster them)

    inputs = cfg.INPUT = CfgNode()
    inputs.SIZE_TRAIN = [256, 128]  # height, width in pixels
    inputs.SIZE_TEST = [256, 128]  # height, width in pixels
    inputs.TRAIN_TRANSFORMS = ["Resize", "RandomHorizontalFlip", "PadAndCrop", "RandomErasing"]  # registered, in order
    inputs.TEST_TRANSFORMS = ["Resize"]  # registered, in order
    inputs.INTERPOLATION_TRAIN = "bicubic"  # of the resize: "bicubic" or "bilinear"
    inputs.INTERPOLATION_TEST = "bilinear"  # the same for evaluation and for encoding the training set
    inputs.SCALED_DECODING_TRAIN = True  # JPEGs of twice SIZE_TRAIN or more are decoded at 1/2, 1/4, 1/8: faster
    inputs.SCALED_DECODING_TEST = False  # the same for SIZE_TEST; changes features slightly, see docs/input_pipeline.md
    inputs.ON_BAD_IMAGE = "raise"  # undecodable files: "raise", or "skip": looked for before the run, left out, listed
    inputs.FLIP_PROBABILITY = 0.5  # share of the training images that are mirrored
    inputs.PADDING = 10  # pixels of black added on each side before the random crop
    inputs.ERASING_PROBABILITY = 0.5  # share of the training images that a box is erased from
    inputs.ERASING_AREA = [0.02, 0.4]  # smallest and largest share of the image that is erased
    inputs.ERASING_ASPECT = [0.3, 3.3]  # smallest and largest height / width of the erased box
    inputs.ERASING_FILL = "mean"  # "mean": MODEL.PIXEL_MEAN; "noise": normal noise per pixel, after normalisation
    inputs.COLOR_JITTER_PROBABILITY = 1.0  # share of the training images (transform ColorJitter, not in use by default)
    inputs.COLOR_JITTER_BRIGHTNESS = 0.15  # x of its factor, drawn from [1 - x, 1 + x]; 0: unchanged
    inputs.COLOR_JITTER_CONTRAST = 0.15  # the same for contrast
    inputs.COLOR_JITTER_SATURATION = 0.1  # the same for saturation
    inputs.COLOR_JITTER_HUE = 0.0  # largest shift of the hue in either direction, in turns, up to 0.5
    inputs.AUGMIX_PROBABILITY = 1.0  # share of the training images (transform AugMix, not in use by default)
    inputs.AUGMIX_SEVERITY = 3  # strength of its operations, 1 to 10
    inputs.AUGMIX_WIDTH = 3  # chains of operations that are mixed
    inputs.AUGMIX_DEPTH = 0  # operations in a chain; 0: drawn from 1, 2, 3
    inputs.AUGMIX_ALPHA = 1.0  # of the weights' distributions; large: equal weights, small: one chain dominates
    inputs.RAND_AUGMENT_PROBABILITY = 1.0  # share of the training images (transform RandAugment, not in use by default)
    inputs.RAND_AUGMENT_NUM_OPERATIONS = 2  # operations applied one after the other
    inputs.RAND_AUGMENT_MAGNITUDE = 9  # their strength, 0 to 30
    inputs.EXTRA_VIEWS = 0  # further augmented views of each training image; batches then hold "views", the plain first
    inputs.EXTRA_VIEW_TRANSFORMS = []  # registered, in order, of the further views; []: those of TRAIN_TRANSFORMS
    inputs.EXTRA_VIEW_ERASING_AREA = []  # ERASING_AREA of the further views, [a, a] for exactly a; []: the same

    loader = cfg.DATALOADER = CfgNode()
    loader.SAMPLER = "IdentitySampler"  # registered sampler of the training batches
    loader.BATCH_SIZE = 64  # images in a training step over all processes
    loader.NUM_INSTANCES = 4  # K: images of each identity in a batch
    loader.NUM_WORKERS = 4  # processes that decode images, per training process; 0: none
    loader.PREFETCH_FACTOR = 4  # batches that each worker prepares ahead
    loader.CACHE_DIR = ""  # folder for decoded and resized images, built once, shared by processes and runs; "": none


def _add_solver(cfg: CfgNode) -> None:
    solver = cfg.SOLVER = CfgNode()
    solver.OPTIMIZER = "SGD"  # registered optimiser: SGD, Adam, AdamW
    solver.BASE_LR = 3.5e-4  # learning rate before the schedule
    solver.MOMENTUM = 0.9  # SGD only
    solver.WEIGHT_DECAY = 5e-4  # of all parameters but biases
    solver.BIAS_LR_FACTOR = 1.0  # learning rate of parameters with "bias" in their name, relative to BASE_LR
    solver.WEIGHT_DECAY_BIAS = 5e-4  # their weight decay
    solver.MAX_EPOCHS = 60  # length of the run (of the last stage, where there are several)
    solver.ITERATIONS_PER_EPOCH = 0  # steps in an epoch, the loader restarting as needed; 0: one pass over the data
    solver.SCHEDULE = "WarmupMultiStep"  # registered learning-rate schedule, a function of the epoch
    solver.SCHEDULE_AT = "epoch_end"  # "epoch_end": epoch e of 1.. uses value e-1; "epoch_start": value e
    solver.MILESTONES = [30, 50]  # epochs at which the rate is multiplied by GAMMA
    solver.GAMMA = 0.1  # see MILESTONES
    solver.WARMUP_EPOCHS = 10  # epochs until the rate is at its base value; 0: no warm-up
    solver.WARMUP_FACTOR = 0.1  # factor of the rate at the first epoch of the warm-up (WarmupMultiStep)
    solver.WARMUP_METHOD = "linear"  # "linear" or "constant"
    solver.WARMUP_LR = 1e-5  # rate at the first epoch of the warm-up (WarmupCosine)
    solver.MIN_LR = 1e-6  # rate at the end (WarmupCosine)
    solver.CLIP_GRADIENT_NORM = 0.0  # largest norm of all gradients together; 0: no limit
    solver.AMP = "auto"  # 16-bit arithmetic: "off", "bfloat16", "float16"; "auto": what the device multiplies natively


def _add_run(cfg: CfgNode) -> None:
    test = cfg.TEST = CfgNode()
    test.EVALUATOR = "auto"  # the registered evaluator of all test sets; "auto": what each dataset's protocol asks for
    test.RANDOM_GALLERIES = 10  # random galleries that are averaged over, where the protocol draws them (VehicleID)
    test.GALLERY_SEED = 0  # of these galleries: the same for runs with other seeds
    test.SINGLE_SHOT_GALLERIES = 100  # such galleries of the single-shot protocol (SingleShotEvaluator, CUHK03's first)
    test.BATCH_SIZE = 128  # images in an encoding step, per process
    test.PRECISION = "float32"  # arithmetic of encoding test images: or "bfloat16", "float16", "auto": the device's own
    test.PERIOD = 10  # epochs between evaluations; the last epoch is always evaluated; 0: only the last
    test.METRIC = "euclidean"  # "euclidean" or "cosine"
    test.SIDE_INFORMATION = True  # give a model with side information the cameras and views of sets it was trained on
    test.NORMALIZE_FEATURES = True  # scale features to unit length before matching
    test.CMC_RANKS = [1, 5, 10]  # ranks shown in the table
    test.CAMERA_RULE = True  # leave out gallery images with the query's identity and camera; False for a single camera
    test.CAMERA_PAIRS = False  # also mAP and rank-1 of each query camera against each gallery camera; logged as a table
    test.ROC = False  # also the true positive rates of verification at the rates TEST.FPR, over all pairs
    test.FPR = [1e-4, 1e-3, 1e-2]  # false positive rates, shares: see docs/evaluation.md for what counts as positive
    test.RERANK = False  # also score k-reciprocal re-ranking: a row of its own in the table, "reranked/mAP" in metrics
    test.RERANK_K1 = 50  # neighbours whose lists must be reciprocal
    test.RERANK_K2 = 15  # nearest images over which an image's code is averaged; 1: none
    test.RERANK_LAMBDA = 0.3  # share of the original distance, in [0, 1]
    test.QUERY_EXPANSION = False  # also score features averaged with their neighbours' (alpha query expansion)
    test.QUERY_EXPANSION_K = 5  # images that are averaged, the image itself included
    test.QUERY_EXPANSION_ALPHA = 3.0  # power of the cosine similarities that weight them
    test.QUERY_EXPANSION_ROUNDS = 1  # how often
    test.QUERY_EXPANSION_GALLERY = True  # the gallery's features too, by all images; False: queries only
    test.FLIP = False  # features of each image and of its mirror image are added
    test.ENSEMBLE_WEIGHTS = []  # --eval-only: further checkpoints, whose features are combined with MODEL.WEIGHTS's
    test.ENSEMBLE = "concatenate"  # how: "concatenate", or "average" where all features are equally wide
    test.PER_QUERY = False  # keep each query's average precision and ranks in the results

    checkpoint = cfg.CHECKPOINT = CfgNode()
    checkpoint.PERIOD = 1  # epochs between checkpoints
    checkpoint.ITERATION_PERIOD = 0  # steps between checkpoints inside an epoch; 0: none
    checkpoint.KEEP = 2  # newest checkpoints kept
    checkpoint.BEST_METRIC = "mAP"  # the checkpoint with the largest value of it is kept too; "" for none

    log = cfg.LOG = CfgNode()
    log.PERIOD = 20  # steps between two lines of the log; losses are read from the device only then
    log.TENSORBOARD = True  # write TensorBoard event files to OUTPUT_DIR/tensorboard
