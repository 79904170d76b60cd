import json

import pytest
import torch

from reid_core.modeling.clip import AdaptedVisionTransformer, build_image_tower, read_architecture


def write_variant(tmp_path, architecture: str, quick_gelu: bool = True, **vision: object) -> str:
    config = read_architecture(architecture)
    config["vision_cfg"].update(vision)
    path = tmp_path / "variant.json"
    path.write_text(json.dumps({**config, "quick_gelu": quick_gelu}))
    return str(path)


VARIANTS = {
    "quick_gelu": {},
    "gelu": {"quick_gelu": False},
    "layer_scale": {"ls_init_value": 0.3},
    "no_first_norm": {"no_ln_pre": True},
    "norms_inside": {"qk_norm": True, "scale_fc": True},
    "one_layer": {"layers": 1},
}


@pytest.fixture(params=list(VARIANTS))
def towers(request, small_vit, tmp_path):
    """The same weights twice: open_clip's tower and ours, at open_clip's own square input."""
    torch.manual_seed(0)
    path = write_variant(tmp_path, small_vit, **VARIANTS[request.param])
    plain, given_away = build_image_tower(path), build_image_tower(path)
    for parameter in plain.parameters():  # no zero biases, so that none can be forgotten
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    given_away.load_state_dict(plain.state_dict())
    return plain, AdaptedVisionTransformer(given_away, (64, 64))


def test_names_are_open_clips(towers):
    plain, adapted = towers
    assert dict(plain.named_parameters()).keys() == dict(adapted.named_parameters()).keys()


def test_values_and_gradients_are_open_clips(towers):
    plain, adapted = towers
    images = torch.randn(3, 3, 64, 64)
    expected, found = plain(images), adapted(images).projected
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    for (name, ours), theirs in zip(adapted.named_parameters(), plain.parameters(), strict=True):
        scale = theirs.grad.abs().max().item()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4 * scale + 1e-6, msg=name)


def test_class_token_alone_equals_all_tokens(towers):
    _, adapted = towers
    images = torch.randn(2, 3, 64, 64)
    for alone, everywhere in zip(adapted(images), adapted.forward_tokens(images), strict=True):
        assert everywhere.shape[1] == 1 + 16
        torch.testing.assert_close(alone, everywhere[:, 0], rtol=1e-5, atol=1e-5)


def small(path: str, input_size=(64, 32), **options) -> AdaptedVisionTransformer:
    torch.manual_seed(1)
    return AdaptedVisionTransformer(build_image_tower(path), input_size, **options)


def test_gradient_checkpointing_changes_nothing(small_vit):
    images, results = torch.randn(2, 3, 64, 32), []
    for checkpointing in (False, True):
        tower = small(small_vit, gradient_checkpointing=checkpointing)
        features = tower(images)
        sum(part.square().sum() for part in features).backward()
        results.append([*features, *(parameter.grad for parameter in tower.parameters())])
    for without, with_it in zip(*results, strict=True):
        assert torch.equal(without, with_it)


def test_gradient_checkpointing_keeps_less(small_vit):
    kept = []
    for checkpointing in (False, True):
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            small(small_vit, gradient_checkpointing=checkpointing)(torch.randn(4, 3, 64, 32))
        kept.append(total)
    assert kept[1] < kept[0] / 2


def test_bfloat16_is_near_float32(small_vit):
    """The path that a CPU takes in 16 bits."""
    tower, images = small(small_vit), torch.randn(2, 3, 64, 32)
    exact = tower(images)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = tower(images)
    for precise, coarse in zip(exact, rounded, strict=True):
        assert (precise - coarse.float()).norm() < 0.03 * precise.norm()
    sum(part.float().square().sum() for part in rounded).backward()
    assert all(parameter.grad.isfinite().all() for parameter in tower.parameters())


@pytest.mark.parametrize(("stride", "grid"), [(0, (4, 2)), (16, (4, 2)), (12, (5, 2)), (8, (7, 3))])
def test_grid_follows_from_size_and_stride(small_vit, stride, grid):
    tower = small(small_vit, patch_stride=stride)
    assert tower.grid == grid
    assert tower.forward_tokens(torch.randn(1, 3, 64, 32)).last.shape == (1, 1 + grid[0] * grid[1], 64)


def test_class_offset_moves_the_class_token_before_its_position(small_vit):
    """The same as another class embedding."""
    images, offset = torch.randn(2, 3, 64, 32), torch.randn(64)
    tower, other = small(small_vit), small(small_vit)
    other.class_embedding.data += offset
    for ours, expected in zip(tower(images, offset.expand(2, -1)), other(images), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "widths"), [("ViT-B-32", (768, 768, 512)), ("ViT-L-14", (1024, 1024, 768))]
)
def test_large_towers(architecture, widths):
    with torch.device("meta"):
        tower = AdaptedVisionTransformer(build_image_tower(architecture), (256, 128))
        features = tower(torch.empty(2, 3, 256, 128))
    assert tower.widths == widths == tuple(part.shape[1] for part in features)


@pytest.mark.parametrize(
    ("input_size", "stride", "message"),
    [
        ((64, 32), 17, "Patch stride 17 does not fit patches of 16x16"),
        ((64, 32), -1, "Patch stride -1"),
        ((64, 8), 0, "Input 64x8 is smaller than a patch"),
    ],
)
def test_bad_sizes_are_refused(small_vit, input_size, stride, message):
    with pytest.raises(ValueError, match=message):
        small(small_vit, input_size, patch_stride=stride)


@pytest.mark.parametrize(("option", "name"), [({"pool_type": "avg"}, "avg"), ({"attentional_pool": True}, "attention")])
def test_towers_without_a_class_feature_are_refused(small_vit, tmp_path, option, name):
    with pytest.raises(ValueError, match=f"pools its tokens .*{name}"):
        small(write_variant(tmp_path, small_vit, **option))


def test_other_image_size_is_refused(small_vit):
    with pytest.raises(ValueError, match=r"\[B, 3, 64, 32\], got \[1, 3, 32, 64\]"):
        small(small_vit)(torch.zeros(1, 3, 32, 64))
