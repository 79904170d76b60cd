"""Grad-CAM lies on what the feature is made of; the maps of a backbone are those of its own functions."""

import pytest
import torch
from torch import nn

from reid_core.engine.saliency import GRAD_CAM, LAST, POOL, ROLLOUT, grad_cam, saliency_maps
from reid_core.modeling.meta_arch import MetaArchitecture, build_model
from reid_core.projects import load_config
from tests.paths import ROOT


class Reader(MetaArchitecture):
    """The feature is the mean of a convolution's positive maps over a region, rows and columns of its places."""

    def __init__(self, region=(slice(None), slice(None))):
        super().__init__([0.0] * 3, [1.0] * 3)
        self.convolution = nn.Conv2d(3, 6, kernel_size=4, stride=4, bias=False)
        self.maps, self.region = nn.ReLU(), region

    def features(self, batch):
        return self.maps(self.convolution(batch["images"]))[:, :, self.region[0], self.region[1]].mean(dim=(2, 3))


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 16, generator=torch.Generator().manual_seed(0))


def reader(*region):
    torch.manual_seed(0)
    return Reader(*region).eval()


def test_only_the_region_that_the_feature_reads_lights_up(images):
    region = slice(2, 4), slice(1, 3)
    model = reader(region)
    found = grad_cam(model, model.maps, {"images": images})
    assert found.shape == (3, 8, 4)
    read = torch.zeros(8, 4, dtype=torch.bool)
    read[region] = True
    assert (found[:, read] > 0).float().mean() > 0.8 and (found[:, read].sum(dim=1) > 0).all()
    assert (found[:, ~read] == 0).all()
    active = model.maps(model.convolution(images)).sum(dim=1) > 0
    assert active[:, ~read].float().mean() > 0.8  # what the activations alone would show


def test_what_is_in_the_image_lights_up_and_the_rest_does_not():
    images = torch.zeros(1, 3, 32, 16)
    images[:, :, 8:12, 4:8] = 1  # place (2, 1) of the map
    model = reader()
    found = grad_cam(model, model.maps, {"images": images})[0]
    assert found.argmax() == 2 * 4 + 1
    assert (found > 0).sum() == 1


def test_of_a_mean_it_is_grad_cam_as_published_written_out(images):
    model = reader()
    found = grad_cam(model, model.maps, {"images": images})
    for image, map_ in zip(images, found, strict=True):
        maps = model.maps(model.convolution(image[None]))[0].detach()
        feature = maps.mean(dim=(1, 2))
        weights = feature / feature.norm() / (8 * 4)  # mean over the places of d|f| / d maps
        expected = sum(weight * plane for weight, plane in zip(weights, maps, strict=True)).clamp(min=0)
        torch.testing.assert_close(map_, expected)
        torch.testing.assert_close(map_.sum(), feature.norm())  # the shares make up the length


def test_it_leaves_the_model_as_it_was(images):
    model = reader()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        grad_cam(model, model.maps, {"images": images})
    assert not model.maps._forward_hooks and model.convolution.weight.grad is None
    with pytest.raises(ValueError, match="Linear does not"):
        grad_cam(model, nn.Linear(2, 2), {"images": images})
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        grad_cam(model.train(), model.maps, {"images": images})


def small_model(market_config, *overrides):
    cfg = load_config(market_config, ["MODEL.BACKBONE.PRETRAINED", "", "INPUT.SIZE_TEST", "[64, 32]", *overrides])
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST
    torch.manual_seed(1)
    return build_model(cfg, "cpu", 0, 1, 1).eval()


def batches(images):
    for rows in (slice(2, 5), slice(0, 2)):
        yield {"images": images[rows], "indices": torch.arange(5)[rows]}


def test_a_vit_shows_its_attention_in_the_order_of_the_indices(market_config, small_clip):
    model = small_model(market_config, "MODEL.BACKBONE.ARCHITECTURE", str(small_clip))
    images = torch.randint(0, 255, (5, 3, 64, 32), dtype=torch.uint8)
    found = saliency_maps(model, batches(images))
    expected = model.backbone.forward_attention(model.normalise(images))
    assert list(found) == [ROLLOUT, LAST]
    for maps, wanted in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(maps, wanted)


def test_a_resnet_shows_grad_cam_and_its_pool(market_config):
    architecture = str(ROOT / "configs" / "clip" / "tiny_rn.json")
    model = small_model(market_config, "MODEL.BACKBONE.ARCHITECTURE", architecture)
    images = torch.randint(0, 255, (5, 3, 64, 32), dtype=torch.uint8)
    found = saliency_maps(model, batches(images))
    assert list(found) == [GRAD_CAM, POOL]
    torch.testing.assert_close(found[POOL], model.backbone.forward_attention(model.normalise(images)).last)
    for image, map_ in zip(images, found[GRAD_CAM], strict=True):  # one by one, by a step in each place's activations
        alone = {"images": image[None]}
        torch.testing.assert_close(map_, slope_by_steps(model, alone), rtol=2e-2, atol=2e-3)
    assert (found[GRAD_CAM].amax(dim=(1, 2)) > 0).all()


@torch.no_grad()
def slope_by_steps(model, batch):
    """Grad-CAM by central differences: each place's activations a little larger and smaller, all channels together."""
    model = model.double()
    batch = {"images": model.normalise(batch["images"]).double()}
    layer, (height, width), step = model.backbone.visual.layer4, model.backbone.visual.grid, 1e-4
    own = model(batch)[0]
    direction = own / own.norm()
    slopes = torch.zeros(height, width)
    for row in range(height):
        for column in range(width):
            values = []
            for factor in (1 + step, 1 - step):

                def scale(module, inputs, output, at=(row, column), factor=factor):
                    output = output.clone()
                    output[:, :, at[0], at[1]] *= factor
                    return output

                hook = layer.register_forward_hook(scale)
                values.append(float(model(batch)[0] @ direction))
                hook.remove()
            slopes[row, column] = (values[0] - values[1]) / (2 * step)
    model.float()
    return slopes.relu()


def test_a_backbone_without_attention_is_named(images):
    with pytest.raises(ValueError, match="NoneType of Reader has no attention to show"):
        saliency_maps(reader(), [{"images": images}])
