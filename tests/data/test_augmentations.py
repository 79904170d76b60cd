import math
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from reid_core.config import get_cfg
from reid_core.data import AugMix, ColorJitter, IdentitySampler, RandAugment, TrainingSet, TrainLoader, build_transforms
from reid_core.data.augmentations import RandomAugmentation

# isort: split
from torchvision import transforms as pillow_transforms  # torchvision's first transforms, here on Pillow images
from torchvision.transforms import functional as pillow_functional

MAKE = {
    "ColorJitter": lambda probability=1.0: ColorJitter(probability, 0.4, 0.4, 0.4, 0.2),
    "AugMix": lambda probability=1.0: AugMix(probability, 3, 3, 0, 1.0),
    "RandAugment": lambda probability=1.0: RandAugment(probability, 2, 9),
}
each = pytest.mark.parametrize("name", MAKE)


def photo(seed=0, height=32, width=16):
    """A Pillow image, smooth with a little noise, as cameras give it; no pixel is above 250."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(20, 230, (6, 4, 3), dtype=np.uint8)).resize((width, height), 3)
    noisy = np.asarray(coarse).astype(int) + rng.integers(-6, 7, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 250).astype(np.uint8))


def to_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("options", "mean", "largest"),
    [((0.4, 0.4, 0.4, 0.0), 0.9, 5), ((0.0, 0.0, 0.0, 0.5), 2.0, 18), ((0.3, 0.0, 0.2, 0.1), 2.0, 18)],
)
def test_color_jitter_is_that_of_pillow_images(options, mean, largest):
    """The first transform draws the same numbers in the same order; roundings differ, with 8 bits of hue the most."""
    ours, theirs = ColorJitter(1.0, *options), pillow_transforms.ColorJitter(*options)
    for seed in range(40):
        torch.manual_seed(seed)
        result = ours(to_tensor(photo(seed)))
        torch.manual_seed(seed)
        torch.rand(())  # whether to change the image
        difference = (result.int() - to_tensor(theirs(photo(seed))).int()).abs()
        assert difference.float().mean() < mean and difference.max() <= largest


def test_color_jitter_draws_its_factors_uniformly():
    image = torch.full((3, 4, 4), 160, dtype=torch.uint8)
    torch.manual_seed(0)
    factors = [ColorJitter(1.0, 0.5, 0.0, 0.0, 0.0)(image)[0, 0, 0].item() / 160 for _ in range(1500)]
    assert stats.kstest(factors, stats.uniform(0.5, 1.0).cdf).pvalue > 1e-3
    gray = ColorJitter(1.0, 0.0, 0.0, 0.9, 0.5)
    for _ in range(20):  # a gray image has neither saturation nor hue
        assert (gray(image).int() - image.int()).abs().max() <= 1


def test_color_jitter_of_nothing_changes_nothing():
    assert torch.equal(ColorJitter(1.0, 0.0, 0.0, 0.0, 0.0)(to_tensor(photo())), to_tensor(photo()))


def affine(image, **changed):
    values = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **changed}
    return pillow_functional.affine(image, **values)


def rand_augment_outcomes(image, share):
    """(image, probability) of every outcome of one operation at `share` of the full strength, by Pillow."""
    width, height = image.size
    shear, factor, shift = 0.3 * share, 0.9 * share, 150 / 331 * share
    degrees = math.degrees(math.atan(shear))
    pairs = [
        [affine(image, shear=[sign * degrees, 0.0], center=[0, 0]) for sign in (1, -1)],
        [affine(image, shear=[0.0, sign * degrees], center=[0, 0]) for sign in (1, -1)],
        [affine(image, translate=[int(sign * shift * width), 0]) for sign in (1, -1)],
        [affine(image, translate=[0, int(sign * shift * height)]) for sign in (1, -1)],
        [image.rotate(sign * 30 * share) for sign in (1, -1)],
    ]
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Sharpness)
    pairs += [[enhancer(image).enhance(1 + sign * factor) for sign in (1, -1)] for enhancer in enhancers]
    single = [
        image,
        ImageOps.posterize(image, round(8 - 4 * share)),
        ImageOps.solarize(image, 255 * (1 - share)),
        ImageOps.autocontrast(image),
        ImageOps.equalize(image),
    ]
    return [(outcome, 1 / 28) for pair in pairs for outcome in pair] + [(outcome, 1 / 14) for outcome in single]


def test_one_operation_of_rand_augment_is_one_of_pillows_as_often_as_it_should():
    image, draws = photo(3, height=64, width=32), 1500
    outcomes, probabilities = zip(*rand_augment_outcomes(image, share=20 / 30), strict=True)
    expected = torch.stack([to_tensor(outcome) for outcome in outcomes]).float()
    transform, counts = RandAugment(1.0, 1, 20), np.zeros(len(outcomes))
    torch.manual_seed(0)
    for _ in range(draws):
        difference = (expected - transform(to_tensor(image)).float()).abs().mean(dim=(1, 2, 3))
        nearest, second = difference.topk(2, largest=False).values.tolist()
        assert nearest < 1.5 and 10 * nearest < second, "one of Pillow's operations, and which one is clear"
        counts[difference.argmin()] += 1
    assert stats.chisquare(counts, draws * np.array(probabilities)).pvalue > 1e-3


def test_rand_augment_applies_as_many_operations_as_asked():
    """Of 14 operations one changes nothing: k of them change nothing with a probability of about 1 / 14 ** k."""
    image = to_tensor(photo(3))
    torch.manual_seed(0)
    unchanged = [sum(torch.equal(RandAugment(1.0, number, 20)(image), image) for _ in range(1000)) for number in (1, 2)]
    assert 45 < unchanged[0] < 105 and unchanged[1] < 25


def test_the_operations_of_augmix_and_their_frequency():
    """At the lowest severity 10 of 13 operations change nothing (no shift, factor 1, nothing above 255)."""
    image, draws = photo(3), 1300
    changed = [ImageOps.posterize(image, 4), ImageOps.autocontrast(image), ImageOps.equalize(image)]
    halves = [(to_tensor(image).float() + to_tensor(other).float()) / 2 for other in (image, *changed)]
    expected, counts = torch.stack(halves), np.zeros(4)
    transform = AugMix(1.0, severity=1, width=1, depth=1, alpha=1e5)  # the weights are one half each
    torch.manual_seed(0)
    for _ in range(draws):
        difference = (expected - 0.5 - transform(to_tensor(image)).float()).abs().mean(dim=(1, 2, 3))
        assert difference.min() < 1
        counts[difference.argmin()] += 1
    assert stats.chisquare(counts, [draws * 10 / 13, *[draws / 13] * 3]).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_the_share_of_the_image_in_augmix_is_beta_distributed(alpha):
    image = to_tensor(photo(3)).float()
    changed = [to_tensor(change(photo(3))).float() for change in (ImageOps.autocontrast, ImageOps.equalize)]
    transform, shares = AugMix(1.0, severity=1, width=1, depth=1, alpha=alpha), []
    torch.manual_seed(0)
    for _ in range(3000):
        change = transform(image.to(torch.uint8)).float() + 0.5 - image  # what is mixed is cut off, not rounded
        fits = [(change * (other - image)).sum() / (other - image).square().sum() for other in changed]
        errors = [(change - w * (o - image)).abs().mean().item() for w, o in zip(fits, changed, strict=True)]
        if min(errors) < 0.5:
            shares.append(fits[int(np.argmin(errors))].item())
    # Smaller shares may as well be of operations without effect; near 1 little or nothing is cut off.
    low, high = stats.beta(alpha, alpha).cdf([0.2, 0.9])
    clear = [share for share in shares if 0.2 < share < 0.9]
    assert len(clear) > 100
    assert stats.kstest(clear, lambda x: (stats.beta(alpha, alpha).cdf(x) - low) / (high - low)).pvalue > 1e-3


def test_augmix_has_the_mean_and_spread_of_the_pillow_version():
    image, draws = photo(1, height=16, width=8), 700
    ours, theirs = AugMix(1.0, 3, 3, 0, 1.0), pillow_transforms.AugMix(3, 3, -1, 1.0)
    torch.manual_seed(0)
    first = torch.stack([ours(to_tensor(image)) for _ in range(draws)]).float()
    second = torch.stack([to_tensor(theirs(image)) for _ in range(draws)]).float()
    z = (first.mean(0) - second.mean(0)) / ((first.var(0) + second.var(0)) / draws).sqrt()
    assert z.abs().max() < 4.5 and z.abs().mean() < 1.6
    assert abs(math.log(first.std(0).mean() / second.std(0).mean())) < 0.1


@each
def test_equal_seeds_give_equal_images_and_only_torchs_generator_counts(name):
    transform, image, results = MAKE[name](), to_tensor(photo()), []
    for number, seed in enumerate((3, 3, 4)):
        random.seed(number), np.random.seed(number)
        torch.manual_seed(seed)
        states = random.getstate(), np.random.get_state()[1].copy()
        results.append(torch.stack([transform(image) for _ in range(20)]))
        assert random.getstate() == states[0] and (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert results[0].dtype == torch.uint8 and torch.equal(image, to_tensor(photo())), "the given image stays"


@each
def test_the_memory_layout_does_not_matter(name):
    transform, results = MAKE[name](), []
    for image in (to_tensor(photo()), to_tensor(photo()).contiguous()):
        torch.manual_seed(1)
        results.append(torch.stack([transform(image) for _ in range(10)]))
    assert torch.equal(*results)


def test_the_probability():
    image, invert = to_tensor(photo()), RandomAugmentation(lambda image: 255 - image, 0.3, "KEY")
    torch.manual_seed(0)
    changed = sum(not torch.equal(invert(image), image) for _ in range(2000))
    assert abs(changed - 600) < 4 * (2000 * 0.3 * 0.7) ** 0.5


@each
def test_probability_zero_changes_nothing(name):
    image = to_tensor(photo())
    assert all(torch.equal(MAKE[name](0.0)(image), image) for _ in range(20))


@each
def test_normalised_images_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name} changes pixels .*got torch.float32.*before .*normalises"):
        MAKE[name]()(torch.zeros(3, 8, 8))


@each
def test_workers_prepare_the_same_images(name, market):
    cfg = get_cfg()
    cfg.INPUT.SIZE_TRAIN, cfg.INPUT.TRAIN_TRANSFORMS = [32, 16], ["Resize", name, "PadAndCrop", "RandomErasing"]
    training_set, results = TrainingSet([market]), []
    for num_workers in (0, 2):
        sampler = IdentitySampler(training_set.targets, 8, 2, seed=1)
        loader = TrainLoader(training_set, sampler, build_transforms(cfg, train=True), num_workers=num_workers, seed=1)
        results.append(torch.cat([batch["images"] for batch in loader.epoch(0)]))
        loader.close()
    assert torch.equal(*results)


@each
def test_built_from_the_config(name):
    cfg = get_cfg()
    values = {
        "COLOR_JITTER_PROBABILITY": 0.9, "COLOR_JITTER_BRIGHTNESS": 0.11, "COLOR_JITTER_CONTRAST": 0.12,
        "COLOR_JITTER_SATURATION": 0.13, "COLOR_JITTER_HUE": 0.14, "AUGMIX_PROBABILITY": 0.8, "AUGMIX_SEVERITY": 4,
        "AUGMIX_WIDTH": 5, "AUGMIX_DEPTH": 2, "AUGMIX_ALPHA": 0.7, "RAND_AUGMENT_PROBABILITY": 0.6,
        "RAND_AUGMENT_NUM_OPERATIONS": 3, "RAND_AUGMENT_MAGNITUDE": 12,
    }  # fmt: skip
    for key, value in values.items():
        cfg.INPUT[key] = value
    cfg.INPUT.TRAIN_TRANSFORMS = [name]
    (built,) = build_transforms(cfg, train=True).transforms
    expected = {
        "ColorJitter": lambda: ColorJitter(0.9, 0.11, 0.12, 0.13, 0.14),
        "AugMix": lambda: AugMix(0.8, 4, 5, 2, 0.7),
        "RandAugment": lambda: RandAugment(0.6, 3, 12),
    }[name]()
    results = []
    for transform in (built, expected):
        torch.manual_seed(2)
        results.append(torch.stack([transform(to_tensor(photo())) for _ in range(20)]))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColorJitter(1.1, 0, 0, 0, 0), "COLOR_JITTER_PROBABILITY must be in .*got 1.1"),
        (lambda: ColorJitter(1.0, -0.1, 0, 0, 0), "COLOR_JITTER_BRIGHTNESS .*got -0.1"),
        (lambda: ColorJitter(1.0, 0, -0.1, 0, 0), "COLOR_JITTER_CONTRAST"),
        (lambda: ColorJitter(1.0, 0, 0, -0.1, 0), "COLOR_JITTER_SATURATION"),
        (lambda: ColorJitter(1.0, 0, 0, 0, 0.6), "COLOR_JITTER_HUE .*got 0.6"),
        (lambda: AugMix(-1, 3, 3, 0, 1.0), "AUGMIX_PROBABILITY"),
        (lambda: AugMix(1.0, 0, 3, 0, 1.0), "AUGMIX_SEVERITY .*got 0"),
        (lambda: AugMix(1.0, 11, 3, 0, 1.0), "AUGMIX_SEVERITY .*got 11"),
        (lambda: AugMix(1.0, 3, 0, 0, 1.0), "AUGMIX_WIDTH"),
        (lambda: AugMix(1.0, 3, 3, -1, 1.0), "AUGMIX_DEPTH"),
        (lambda: AugMix(1.0, 3, 3, 0, 0.0), "AUGMIX_ALPHA"),
        (lambda: RandAugment(2, 2, 9), "RAND_AUGMENT_PROBABILITY"),
        (lambda: RandAugment(1.0, 0, 9), "RAND_AUGMENT_NUM_OPERATIONS"),
        (lambda: RandAugment(1.0, 2, 31), "RAND_AUGMENT_MAGNITUDE .*got 31"),
    ],
)
def test_refused_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
