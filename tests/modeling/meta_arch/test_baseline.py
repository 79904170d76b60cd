import pytest
import torch

from reid_core.config import get_cfg
from reid_core.engine.launch import main
from reid_core.modeling.losses import batch_hard_triplet_loss, identity_loss
from reid_core.modeling.meta_arch import MetaArchitecture, build_model


def _model(small_clip):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.ARCHITECTURE, cfg.MODEL.BACKBONE.PRETRAINED = str(small_clip), ""
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [64, 32]
    cfg.MODEL.LOSSES.ID_WEIGHT, cfg.MODEL.LOSSES.TRIPLET_WEIGHT = 0.25, 2.0
    torch.manual_seed(0)
    return build_model(cfg, "cpu", 4, 1, 1)


def test_losses_are_weighted_sums(small_clip):
    model = _model(small_clip).train()
    batch = {"images": torch.randint(0, 256, (8, 3, 64, 32), dtype=torch.uint8), "targets": torch.arange(8) // 2}
    losses = model(batch)
    features = model.backbone(model.normalise(batch["images"]))
    scores = model.heads(features)
    id_losses = [identity_loss(score, batch["targets"], 0.1) for score in scores]
    triplets = [batch_hard_triplet_loss(feature, batch["targets"], 0.3) for feature in features]
    torch.testing.assert_close(losses["loss_id"], 0.25 * sum(id_losses))
    torch.testing.assert_close(losses["loss_triplet"], 2.0 * sum(triplets))


def test_bytes_are_normalised_and_floats_are_taken_as_they_are(small_clip):
    model = _model(small_clip).eval()
    images = torch.randint(0, 256, (2, 3, 64, 32), dtype=torch.uint8)
    floats = (images.float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(model({"images": images}), model({"images": floats}), rtol=1e-4, atol=1e-5)
    assert "pixel_mean" not in model.state_dict()


def test_a_model_without_losses_or_features_says_which():
    model = MetaArchitecture([0.5] * 3, [0.5] * 3)
    with pytest.raises(TypeError, match="does not define losses"):
        model.train()({})
    with pytest.raises(TypeError, match="does not define features"):
        model.eval()({})


def test_the_core_trains_without_any_project(small_market, small_clip, tmp_path):
    (tmp_path / "plain.yml").write_text(
        "INPUT: {SIZE_TRAIN: [64, 32], SIZE_TEST: [64, 32]}\n"
        "DATALOADER: {BATCH_SIZE: 8, NUM_INSTANCES: 2, NUM_WORKERS: 0}\n"
        "SOLVER: {MAX_EPOCHS: 1, ITERATIONS_PER_EPOCH: 2, BASE_LR: 0.001}\n"
        "LOG: {TENSORBOARD: false}\n"
    )
    words = ["DATASETS.ROOT", str(small_market), "MODEL.BACKBONE.ARCHITECTURE", str(small_clip)]
    words += ["MODEL.BACKBONE.PRETRAINED", "", "OUTPUT_DIR", str(tmp_path / "run")]
    assert main(["--config-file", str(tmp_path / "plain.yml"), *words]) == 0
    assert (tmp_path / "run" / "metrics.json").exists()


def test_of_several_views_the_plain_one_is_trained_on(small_clip):
    model = _model(small_clip).train()
    views = torch.randint(0, 256, (8, 3, 3, 64, 32), dtype=torch.uint8)
    targets = torch.arange(8) // 2
    several, one = (model({"targets": targets, **images}) for images in ({"views": views}, {"images": views[:, 0]}))
    assert {name: float(loss) for name, loss in several.items()} == {name: float(loss) for name, loss in one.items()}
