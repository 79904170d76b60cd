import re

import pytest
import torch

from reid_core.config import get_cfg
from reid_core.modeling.backbones import CLIPImageBackbone
from reid_core.modeling.clip import attention_maps, build_image_tower, resize_positions
from reid_core.registry import BACKBONE_REGISTRY
from tests.paths import ROOT

VIT = str(ROOT / "configs" / "clip" / "test_vit.json")
RESNET = str(ROOT / "configs" / "clip" / "tiny_rn.json")


def small(architecture: str = VIT, input_size=(64, 32), seed: int = 0, **options) -> CLIPImageBackbone:
    torch.manual_seed(seed)
    return CLIPImageBackbone(architecture, input_size, **options)


@pytest.fixture
def images():
    return torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.ARCHITECTURE, cfg.MODEL.BACKBONE.PRETRAINED = VIT, ""
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [64, 32]
    return cfg


def test_built_from_the_config(cfg, images):
    cfg.MODEL.BACKBONE.merge_from_dict(
        {
            "PATCH_STRIDE": 8,
            "SIE_CAMERA": True,
            "SIE_COEFFICIENT": 2.5,
            "FREEZE": ["conv1"],
            "GRADIENT_CHECKPOINTING": True,
        },
        "test",
    )
    backbone = BACKBONE_REGISTRY.build("CLIPImageBackbone", cfg, num_cameras=6, num_views=8)
    assert backbone.visual.grid == (7, 3)
    assert backbone.cv_embed.shape == (6, 64)
    assert backbone.sie_coefficient == 2.5
    assert backbone.visual.gradient_checkpointing
    assert not backbone.visual.conv1.weight.requires_grad
    features = backbone(images, torch.tensor([0, 5, 2]))
    assert backbone.widths == tuple(part.shape[1] for part in features) == (64, 64, 32)


def test_config_errors(cfg):
    cfg.MODEL.BACKBONE.SIE_CAMERA = True
    with pytest.raises(ValueError, match="SIE_CAMERA is on, but the training set names 0"):
        CLIPImageBackbone.from_config(cfg, num_cameras=0, num_views=0)
    cfg.INPUT.SIZE_TEST = [128, 64]
    with pytest.raises(ValueError, match=r"SIZE_TRAIN \[64, 32\] and INPUT.SIZE_TEST \[128, 64\] differ"):
        CLIPImageBackbone.from_config(cfg, num_cameras=1, num_views=0)


def test_pretrained_weights_are_resized(tmp_path, images):
    tower = build_image_tower(VIT)
    torch.save(tower.state_dict(), tmp_path / "tower.pt")
    backbone = small(pretrained=str(tmp_path / "tower.pt"))
    found = backbone.visual.state_dict()
    for name, value in tower.state_dict().items():
        expected = resize_positions(value, (4, 4), (4, 2)) if name == "positional_embedding" else value
        assert torch.equal(found[name], expected), name
    assert all(value.is_leaf and value.requires_grad for value in backbone.parameters())


def test_attention_depends_on_side_information(images):
    backbone = small(num_cameras=3).eval()
    torch.nn.init.normal_(backbone.cv_embed)
    found, without = backbone.forward_attention(images, torch.tensor([0, 1, 2])), backbone.forward_attention(images)
    assert found.rollout.shape == found.last.shape == (3, *backbone.visual.grid)
    expected = attention_maps(backbone.visual, images, backbone.cv_embed)
    assert torch.equal(found.rollout, expected.rollout) and torch.equal(found.last, expected.last)
    assert not torch.allclose(found.rollout, without.rollout, atol=1e-4)


def test_the_resnet_as_a_backbone(tmp_path, images):
    torch.save(build_image_tower(RESNET).state_dict(), tmp_path / "tower.pt")
    backbone = small(RESNET, pretrained=str(tmp_path / "tower.pt"))
    features = backbone(images, camids=torch.tensor([0, 1, 2]))  # without side information they are not looked at
    assert backbone.widths == tuple(part.shape[1] for part in features) == (128, 256, 32)
    assert backbone.forward_tokens(images).projected.shape == (3, 1 + 4 * 2, 32)


def reference_rows(backbone, camids, viewids) -> list[int]:
    rows = []
    for index in range(len(camids if camids is not None else viewids)):
        if backbone.num_cameras and backbone.num_views:
            rows.append(int(camids[index]) * backbone.num_views + int(viewids[index]))
        else:
            rows.append(int((camids if backbone.num_cameras else viewids)[index]))
    return rows


@pytest.mark.parametrize(("num_cameras", "num_views", "rows"), [(4, 0, 4), (0, 3, 3), (4, 3, 12)])
def test_side_information_is_the_row_of_camera_and_view(images, num_cameras, num_views, rows):
    backbone = small(num_cameras=num_cameras, num_views=num_views, sie_coefficient=2.0)
    assert backbone.cv_embed.shape == (rows, 64)
    camids, viewids = torch.tensor([3, 0, 2]), torch.tensor([1, 2, 0])
    chosen = reference_rows(backbone, camids, viewids)
    offset = torch.stack([2.0 * backbone.cv_embed[row] for row in chosen])
    for found, expected in zip(
        backbone(images, camids, viewids), backbone.visual(images, offset), strict=True
    ):
        torch.testing.assert_close(found, expected)
    backbone(images, camids, viewids).projected.square().sum().backward()
    touched = backbone.cv_embed.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert touched == sorted(chosen)


def test_side_information_starts_small(images):
    table = small(num_cameras=50).cv_embed
    assert 0.015 < table.std() < 0.025


def test_without_cameras_side_information_is_left_out(images):
    backbone = small(num_cameras=4, num_views=2)
    for found, expected in zip(backbone(images), backbone.visual(images), strict=True):
        assert torch.equal(found, expected)


def test_single_images_of_unknown_camera_or_view_have_no_side_information(images):
    backbone = small(num_cameras=4, num_views=2)
    camids, viewids = torch.tensor([3, -1, 2]), torch.tensor([1, 1, -1])
    mixed, plain = backbone(images, camids, viewids), backbone(images)
    known = backbone(images, camids.clamp(min=0), viewids.clamp(min=0))
    for found, without, expected in zip(mixed, plain, known, strict=True):
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1:], without[1:])
        assert not torch.allclose(expected[1:], without[1:])


def test_side_information_errors(images):
    backbone = small(num_cameras=4, num_views=2)
    numbers = torch.tensor([0, 1, 0])
    with pytest.raises(ValueError, match="camids holds 4, .* 0 to 3"):
        backbone(images, torch.tensor([0, 4, 1]), numbers)
    with pytest.raises(ValueError, match="viewids holds -2, .* 0 to 1; pass -1"):
        backbone(images, numbers, torch.tensor([0, -2, 1]))
    with pytest.raises(ValueError, match="camids and viewids, or neither; got camids alone"):
        backbone(images, camids=numbers)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ({"num_cameras": 4}, "SIE_CAMERA"),
        ({"num_views": 4}, "SIE_VIEW"),
        ({"patch_stride": 12}, "PATCH_STRIDE"),
        ({"gradient_checkpointing": True}, "GRADIENT_CHECKPOINTING"),
    ],
)
def test_options_of_the_vit_are_refused_for_a_resnet(option, name):
    with pytest.raises(ValueError, match=f"is a ModifiedResNet: .*{name}"):
        small(RESNET, **option)


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        (["conv1"], {"conv1.weight"}),
        (["conv1", "ln_pre"], {"conv1.weight", "ln_pre.weight", "ln_pre.bias"}),
        (["transformer.resblocks.1.mlp.c_fc.bias", "proj"], {"transformer.resblocks.1.mlp.c_fc.bias", "proj"}),
    ],
)
def test_freeze(freeze, frozen, images):
    backbone = small(freeze=freeze)
    assert {name for name, value in backbone.visual.named_parameters() if not value.requires_grad} == frozen
    sum(part.square().sum() for part in backbone(images)).backward()
    assert all((value.grad is None) == (name in frozen) for name, value in backbone.visual.named_parameters())


def test_freeze_counts_whole_parts_of_names():
    with pytest.raises(ValueError, match=r"Nothing to freeze under 'conv'.*conv1"):
        small(freeze=["conv"])
    with pytest.raises(ValueError, match=r"'resblocks\.0'.*transformer\.resblocks\.0"):
        small(freeze=["resblocks.0"])


# --- checkpoints -----------------------------------------------------------------------------------------------------


def test_own_state_is_loaded_unchanged(images):
    saved = small(seed=1, num_cameras=3)
    loaded = small(seed=2, num_cameras=3)
    state, notes = loaded.adapt_state_dict(saved.state_dict())
    loaded.load_state_dict(state)
    assert notes == []
    for found, expected in zip(loaded(images), saved(images), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_positions_of_another_input_size_are_resized(prefix):
    saved, loaded = small(input_size=(32, 64)), small(input_size=(64, 32))
    state = {f"{prefix}{name}": value for name, value in saved.state_dict().items()}
    before = {name: value.clone() for name, value in state.items()}
    adapted, notes = loaded.adapt_state_dict({**state, "other": torch.zeros(1)}, prefix)
    assert adapted.pop("other") is not None
    loaded.load_state_dict({name.removeprefix(prefix): value for name, value in adapted.items()})
    table = saved.visual.positional_embedding
    assert torch.equal(loaded.visual.positional_embedding, resize_positions(table, (2, 4), (4, 2)))
    assert notes == [f"{prefix}visual.positional_embedding: resized from 2x4 to 4x2 positions"]
    assert all(torch.equal(state[name], before[name]) for name in state)  # the caller's is untouched


def test_positions_of_another_grid_do_not_load_unnoticed():
    """2x4 and 4x2 have tables of one shape."""
    with pytest.raises(RuntimeError, match=r"position_grid is \[2, 4\], this backbone has \[4, 2\].*adapt_state_dict"):
        small(input_size=(64, 32)).load_state_dict(small(input_size=(32, 64)).state_dict())


def test_grids_that_were_not_saved():
    backbone = small()  # 4 x 2
    state = backbone.state_dict()
    del state["position_grid"]
    adapted, notes = backbone.adapt_state_dict(state)
    assert notes == [] and adapted["position_grid"].tolist() == [4, 2]
    for rows, expected in ((1 + 9, "resized from 3x3 to 4x2"), (1 + 16, "resized from 4x4 to 4x2")):
        _, notes = backbone.adapt_state_dict({**state, "visual.positional_embedding": torch.randn(rows, 64)})
        assert expected in notes[0]
    with pytest.raises(ValueError, match="has 12 positions, which are no square.*'position_grid'"):
        backbone.adapt_state_dict({**state, "visual.positional_embedding": torch.randn(1 + 12, 64)})


@pytest.mark.parametrize(
    ("saved_cameras", "own_cameras", "note"),
    [(6, 3, r"has shape \[6, 64\], \[3, 64\] needed"), (0, 3, "is missing"), (6, 0, "dropped"), (3, 3, None)],
)
def test_side_information_of_other_cameras(saved_cameras, own_cameras, note):
    saved, loaded = small(num_cameras=saved_cameras), small(seed=3, num_cameras=own_cameras)
    own = None if loaded.cv_embed is None else loaded.cv_embed.detach().clone()
    adapted, notes = loaded.adapt_state_dict(saved.state_dict())
    loaded.load_state_dict(adapted)
    if note is None:
        assert notes == [] and torch.equal(loaded.cv_embed, saved.cv_embed)
    else:
        (found,) = notes
        assert re.search(note, found)
        assert own is None or torch.equal(loaded.cv_embed, own)
