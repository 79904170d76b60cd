import pytest
import torch
import torch.nn.functional as F

from reid_core.modeling.clip import AdaptedModifiedResNet, build_image_tower


def adapted_and_plain(path: str, input_size=(64, 32)):
    """Ours, and open_clip's tower with the same random weights."""
    torch.manual_seed(0)
    plain, given_away = build_image_tower(path), build_image_tower(path)
    for name, value in plain.state_dict().items():
        if value.is_floating_point():
            torch.nn.init.uniform_(value, 0.5, 1.5) if "running_var" in name else torch.nn.init.normal_(value, 0, 0.3)
    given_away.load_state_dict(plain.state_dict())
    return AdaptedModifiedResNet(given_away, input_size).eval(), plain.eval()


def plain_block(block, hidden):
    """A bottleneck without its pools, written out."""
    out = F.relu(block.bn1(block.conv1(hidden)))
    out = F.relu(block.bn2(block.conv2(out)))
    return F.relu(block.bn3(block.conv3(out)) + block.downsample[2](block.downsample[1](hidden)))


def test_features_match_open_clips_parts(small_resnet):
    adapted, plain = adapted_and_plain(small_resnet)
    images = torch.randn(2, 3, 64, 32)
    features, tokens = adapted(images), adapted.forward_tokens(images)
    layer3 = plain.layer3(plain.layer2(plain.layer1(plain.stem(images))))
    layer4 = plain_block(plain.layer4[0], layer3)
    plain.attnpool.positional_embedding = adapted.attnpool.positional_embedding
    by_parts = (layer3.mean((2, 3)), layer4.mean((2, 3)), plain.attnpool(layer4))
    for found, expected in zip(features, by_parts, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tokens.penultimate, layer3.flatten(2).mT)
    torch.testing.assert_close(tokens.last, layer4.flatten(2).mT, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tokens.projected[:, 0], features.projected, rtol=1e-4, atol=1e-4)
    assert tokens.projected.shape[1] == 1 + 4 * 2
    assert adapted.widths == tuple(part.shape[1] for part in features)


def test_names_are_open_clips(small_resnet):
    adapted, plain = adapted_and_plain(small_resnet)
    assert adapted.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("size", [(64, 32), (80, 40), (72, 56), (33, 47)])
def test_grid_is_the_maps_size(small_resnet, size):
    adapted, _ = adapted_and_plain(small_resnet, size)
    assert adapted.forward_tokens(torch.randn(1, 3, *size)).last.shape[1] == adapted.grid[0] * adapted.grid[1]


def test_training_reaches_every_parameter(small_resnet):
    adapted, _ = adapted_and_plain(small_resnet)
    sum(part.square().sum() for part in adapted.train()(torch.randn(4, 3, 64, 32))).backward()
    for name, parameter in adapted.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_bad_sizes_are_refused(small_resnet):
    with pytest.raises(ValueError, match="Input 64x8 is too small"):
        adapted_and_plain(small_resnet, (64, 8))
    adapted, _ = adapted_and_plain(small_resnet)
    with pytest.raises(ValueError, match="position table"):
        adapted(torch.zeros(1, 3, 32, 64))
