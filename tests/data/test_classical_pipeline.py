"""Our pipeline against the published one of Pillow images: the same distributions in training, features in testing.

The published pipeline (Pillow, torchvision's first transforms) is written out here. Both sides transform the same
rendered images many times, and each decision is read off the results: an image that leaves a pipeline is compared with
all flipped and shifted versions of that pipeline's own resized image, and what differs from the right one was erased.
Seeds and sizes are fixed, so the outcome is too; the tests are sharp enough to see a padding of 9 or a probability of
0.4.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from reid_core.config import get_cfg
from reid_core.data import build_test_loader, build_transforms
from reid_core.data.rendering import RenderingOptions
from reid_core.data.rendering.picture import draw_picture
from reid_core.data.rendering.plan import plan_jobs
from reid_core.data.transforms import normalize
from reid_core.modeling.backbones import CLIPImageBackbone
from reid_core.structures import ReIDImage
from tests.paths import ROOT

# isort: split
from torchvision import transforms as published

HEIGHT, WIDTH, PADDING, DRAWS = 64, 32, 10, 1500
OFFSETS = range(-PADDING - 1, PADDING + 2)  # one more than there should be in either direction
HALF = torch.full((3, 1, 1), 0.5)
TO_NORMALISED = [published.ToTensor(), published.Normalize([0.5] * 3, [0.5] * 3)]


def rendered(number: int, height: int = 2 * HEIGHT, width: int = 2 * WIDTH) -> Image.Image:
    options = RenderingOptions(train_identities=8, height=height, width=width)
    return draw_picture(options, plan_jobs(options)[5 * number])


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class Decisions(NamedTuple):
    """What a pipeline drew for each image: arrays over the images, the last three over those with an erased box."""

    flipped: np.ndarray
    top: np.ndarray
    left: np.ndarray
    erased: np.ndarray
    area: np.ndarray
    aspect: np.ndarray
    filling: np.ndarray


def read_off(images: Tensor, resized: Tensor) -> Decisions:
    """images: float [N, 3, H, W], what left a pipeline. resized: float [3, H, W], its image before any decision."""
    keys = [(flip, top, left) for flip in (0, 1) for top in OFFSETS for left in OFFSETS]
    border = OFFSETS[-1]
    padded = torch.nn.functional.pad(resized, [border] * 4, value=-1.0)  # black, normalised
    padded = torch.stack([padded, torch.nn.functional.pad(resized.flip(-1), [border] * 4, value=-1.0)])
    windows = padded.unfold(2, HEIGHT, 1).unfold(3, WIDTH, 1)  # [2, 3, offsets, offsets, H, W]
    candidates = windows.permute(0, 2, 3, 1, 4, 5).reshape(len(keys), 3, HEIGHT, WIDTH)
    probes = torch.randperm(HEIGHT * WIDTH, generator=torch.Generator().manual_seed(0))[:150]
    known, seen = (values.sum(1).flatten(1)[:, probes] for values in (candidates, images))
    chosen, boxes, filling = [], [], []
    for image, row in zip(images, seen, strict=True):
        best = ((known - row).abs() < 1e-4).sum(1).argmax()
        differs = (image - candidates[best]).abs().amax(0) > 1e-4
        chosen.append(keys[best])
        boxes.append(bounding_box(differs))
        filling.append(image[0, differs])
    areas = [height * width / (HEIGHT * WIDTH) for height, width in filter(None, boxes)]
    aspects = [height / width for height, width in filter(None, boxes)]
    columns = (*np.array(chosen).T, np.array([box is not None for box in boxes]), np.array(areas), np.array(aspects))
    return Decisions(*columns, torch.cat(filling).numpy())


def bounding_box(differs: Tensor) -> tuple[int, int] | None:
    """Height and width of the erased box, which must be filled but for pixels that happened to have its colour."""
    if not differs.any():
        return None
    rows, columns = (differs.any(dim).nonzero().flatten() for dim in (1, 0))
    height, width = (int(ends[-1] - ends[0] + 1) for ends in (rows, columns))
    assert differs.sum() > 0.98 * height * width
    return height, width


class Sides(NamedTuple):
    """Both pipelines' images, float [N, 3, H, W], and what was read off them."""

    ours: Tensor
    theirs: Tensor
    our_decisions: Decisions
    their_decisions: Decisions


@cache
def sides(fill: str, number: int) -> Sides:
    image, cfg = rendered(number), get_cfg()
    cfg.INPUT.SIZE_TRAIN, cfg.INPUT.ERASING_FILL = [HEIGHT, WIDTH], fill  # all else as by default
    transform, pixels = build_transforms(cfg, train=True), to_tensor(image)
    torch.manual_seed(10 * number)
    images = [transform(pixels) for _ in range(DRAWS)]
    ours = torch.stack([normalize(image, HALF, HALF) if image.dtype == torch.uint8 else image for image in images])
    their_resize = published.Resize((HEIGHT, WIDTH), interpolation=published.InterpolationMode.BICUBIC)
    random_steps = [published.RandomHorizontalFlip(0.5), published.Pad(10), published.RandomCrop((HEIGHT, WIDTH))]
    erasing = published.RandomErasing(0.5, (0.02, 0.4), (0.3, 3.3), value="random" if fill == "noise" else 0.0)
    their_transform = published.Compose([their_resize, *random_steps, *TO_NORMALISED, erasing])
    torch.manual_seed(10 * number + 1)
    theirs = torch.stack([their_transform(image) for _ in range(DRAWS)])
    cfg.INPUT.TRAIN_TRANSFORMS = ["Resize"]
    our_resized = normalize(build_transforms(cfg, train=True)(pixels), HALF, HALF)
    their_resized = published.Compose([their_resize, *TO_NORMALISED])(image)
    return Sides(ours, theirs, read_off(ours, our_resized), read_off(theirs, their_resized))


each = pytest.mark.parametrize(("fill", "number"), [("noise", 0), ("mean", 1)])


@pytest.mark.parametrize("number", [0, 1])
def test_the_resize(number):
    cfg = get_cfg()
    cfg.INPUT.SIZE_TRAIN, cfg.INPUT.TRAIN_TRANSFORMS = [HEIGHT, WIDTH], ["Resize"]
    image = rendered(number, 150, 61)
    ours = build_transforms(cfg, train=True)(to_tensor(image)).int()
    theirs = to_tensor(published.Resize((HEIGHT, WIDTH), published.InterpolationMode.BICUBIC)(image)).int()
    assert (ours - theirs).abs().max() <= 2 and (ours - theirs).abs().float().mean() < 0.3


@each
def test_mean_and_spread_of_every_pixel(fill, number):
    ours, theirs, *_ = sides(fill, number)
    z = (ours.mean(0) - theirs.mean(0)) / ((ours.var(0) + theirs.var(0)) / DRAWS).sqrt()
    assert z.abs().max() < 5 and z.abs().mean() < 1.5
    spread = (ours.std(0) / theirs.std(0)).log()
    assert spread.abs().max() < 0.4 and spread.mean().abs() < 0.03


@each
def test_shares_of_flipped_and_erased_images(fill, number):
    for decisions in sides(fill, number)[2:]:
        for share in (decisions.flipped, decisions.erased):
            assert stats.binomtest(int(share.sum()), DRAWS, 0.5).pvalue > 1e-3


@each
def test_crop_offsets(fill, number):
    for decisions in sides(fill, number)[2:]:
        for offsets in (decisions.top, decisions.left):
            counts = [(offsets == offset).sum() for offset in OFFSETS]
            assert counts[0] == counts[-1] == 0 and stats.chisquare(counts[1:-1]).pvalue > 1e-3


@each
def test_decisions_do_not_depend_on_each_other(fill, number):
    for decisions in sides(fill, number)[2:]:
        p_values = stats.spearmanr(np.stack(decisions[:4], axis=1)).pvalue
        assert p_values[~np.eye(4, dtype=bool)].min() > 1e-3


@each
def test_erased_boxes(fill, number):
    _, _, ours, theirs = sides(fill, number)
    for one, other in ((ours.area, theirs.area), (ours.aspect, theirs.aspect)):
        assert len(one) > 600 and stats.ks_2samp(one, other).pvalue > 1e-3
    assert max(ours.area) < 0.42 and min(ours.area) > 0.015


def test_the_filling():
    for decisions in sides("noise", 0)[2:]:
        values = decisions.filling
        assert len(values) > 100_000 and abs(values.mean()) < 0.01 and abs(values.std() - 1) < 0.01
        assert stats.kstest(values[:20_000], "norm").pvalue > 1e-3
    ours, theirs = (decisions.filling for decisions in sides("mean", 1)[2:])
    assert set(theirs) == {0.0} and np.abs(ours).max() < 1 / 127  # half a level: 127.5 is no pixel


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    """JPEG files of several sizes, larger and smaller than the network's input."""
    folder, paths = tmp_path_factory.mktemp("photos"), []
    for number, size in enumerate([(128, 64), (90, 41), (256, 128), (300, 150), (400, 170), (512, 256)]):
        paths.append(folder / f"{number}.jpg")
        rendered(number, *size).save(paths[-1], quality=90)
    return paths


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_features_of_test_images(photos, interpolation):
    """Only roundings differ: in a resize, now and then by one of 256 levels."""
    size, cfg = (256, 128), get_cfg()
    cfg.INPUT.SIZE_TEST, cfg.INPUT.INTERPOLATION_TEST = list(size), interpolation
    cfg.INPUT.SCALED_DECODING_TEST, cfg.DATALOADER.NUM_WORKERS = False, 0
    (batch,) = build_test_loader(cfg, [ReIDImage(str(path), 0, 0, 0) for path in photos])
    steps = [published.Resize(size, published.InterpolationMode(interpolation)), *TO_NORMALISED]
    theirs = torch.stack([published.Compose(steps)(Image.open(path).convert("RGB")) for path in photos])
    torch.manual_seed(0)
    model = CLIPImageBackbone(str(ROOT / "configs" / "clip" / "test_vit.json"), size).eval()
    with torch.no_grad():
        our_features, their_features = model(normalize(batch["images"], HALF, HALF)), model(theirs)
    for one, other in zip(our_features, their_features, strict=True):
        assert ((one - other).norm(dim=1) / other.norm(dim=1)).max() < 1e-3
        assert (other[0] - other[1]).norm() > 0.02 * other[0].norm(), "other images have other features"
