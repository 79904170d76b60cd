import math

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core.config import get_cfg
from reid_core.data.transforms import (
    Compose,
    MultiView,
    PadAndCrop,
    RandomErasing,
    RandomHorizontalFlip,
    Resize,
    build_transforms,
    normalize,
    split_resize,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photo(height, width, seed=0):
    """A smooth image with a little noise, as cameras give it."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 5, 3), dtype=np.uint8)).resize((width, height), 3)
    noisy = np.asarray(coarse).astype(int) + rng.integers(-8, 9, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def to_tensor(pixels):
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(128, 64), (400, 150), (37, 90), (256, 128), (900, 310)])
@pytest.mark.parametrize("target", [(256, 128), (64, 32), (256, 256)])
def test_resize_is_pillows(size, target, interpolation):
    pixels = photo(*size)
    mode = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    expected = to_tensor(Image.fromarray(pixels).resize(target[::-1], mode))
    result = Resize(target, interpolation)(to_tensor(pixels))
    assert result.dtype == torch.uint8 and result.shape == (3, *target)
    difference = (result.int() - expected.int()).float()  # roundings between the two passes: of one level, unbiased
    assert difference.abs().max() <= 2 and difference.abs().mean() < 0.3 and difference.mean().abs() < 0.05


def test_resize_does_not_depend_on_the_memory_layout():
    image = to_tensor(photo(100, 60))
    assert torch.equal(Resize((64, 32), "bicubic")(image), Resize((64, 32), "bicubic")(image.contiguous()))


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flip_certainties(probability):
    image = to_tensor(photo(20, 10))
    expected = image.flip(-1) if probability else image
    assert torch.equal(RandomHorizontalFlip(probability)(image), expected)


def test_flip_half_of_the_time():
    image, flip = to_tensor(photo(4, 6)), RandomHorizontalFlip(0.5)
    torch.manual_seed(0)
    flips = sum(not torch.equal(flip(image), image) for _ in range(1000))
    assert 440 < flips < 560


def test_pad_and_crop_shows_every_offset_over_black():
    image, seen = torch.full((3, 6, 4), 255, dtype=torch.uint8), set()
    torch.manual_seed(0)
    for _ in range(500):
        cut = PadAndCrop(2)(image)
        assert cut.shape == image.shape and cut.dtype == torch.uint8
        rows, columns = (cut[0] > 0).any(1), (cut[0] > 0).any(0)
        expected = (rows[:, None] & columns[None]).to(torch.uint8) * 255
        assert torch.equal(cut, expected.expand_as(cut))
        seen.add((rows.nonzero()[0].item(), int(rows.sum()), columns.nonzero()[0].item(), int(columns.sum())))
    assert len(seen) == 25  # 5 x 5 places of the window


@pytest.mark.parametrize(("size", "padding"), [((20, 10), 3), ((6, 4), 10), ((7, 30), 0), ((5, 5), 5)])
def test_pad_and_crop_is_a_window_of_the_padded_image(size, padding):
    image, crop = to_tensor(photo(*size)), PadAndCrop(padding)
    padded = torch.zeros(3, size[0] + 2 * padding, size[1] + 2 * padding, dtype=torch.uint8)
    padded[:, padding : padding + size[0], padding : padding + size[1]] = image
    for seed in range(30):
        torch.manual_seed(seed)
        top, left = (int(torch.randint(0, 2 * padding + 1, ())) for _ in range(2))
        torch.manual_seed(seed)
        assert torch.equal(crop(image), padded[:, top : top + size[0], left : left + size[1]])


def test_a_transform_is_its_leading_resize_and_the_rest():
    image = to_tensor(photo(50, 30))
    resize = Resize((20, 10), "bicubic")
    plain = Compose([resize, RandomHorizontalFlip(0.5), PadAndCrop(2)])
    views = MultiView(Compose(plain.transforms[1:]), PadAndCrop(3), 2, shared=Compose([resize]))
    for transform in (plain, views):
        first, rest = split_resize(transform)
        assert first is resize
        for seed in range(8):
            torch.manual_seed(seed)
            expected = transform(image)
            torch.manual_seed(seed)
            assert torch.equal(rest(first(image)), expected)


def test_a_transform_that_begins_otherwise_is_not_split():
    class RandomlySized(Resize):
        pass

    size = (20, 10)
    others = [Compose([]), RandomlySized(size), Compose([RandomlySized(size)]), Compose([PadAndCrop(), Resize(size)])]
    for transform in (*others, MultiView(Resize(size), Resize(size), 1), lambda image: image):
        first, rest = split_resize(transform)
        assert first is None and rest is transform


def test_pad_and_crop_refuses_normalised_images():
    with pytest.raises(ValueError, match="0 only before normalisation"):
        PadAndCrop(2)(torch.zeros(3, 6, 4))


def test_normalize():
    image = to_tensor(photo(5, 4))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    expected = (image.numpy() / 255.0 - np.array(MEAN).reshape(3, 1, 1)) / np.array(STD).reshape(3, 1, 1)
    result = normalize(image, mean, std)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)


def erased_box(before, after):
    """Rows and columns of the changed part, which must be a full rectangle."""
    changed = (before != after).any(0)
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    assert len(rows) == rows[-1] - rows[0] + 1 and len(columns) == columns[-1] - columns[0] + 1
    return rows, columns


def test_erasing_with_the_mean_keeps_uint8_and_draws_area_and_aspect():
    image = torch.full((3, 128, 64), 7, dtype=torch.uint8)
    erase = RandomErasing(1.0, (0.02, 0.4), (0.3, 3.3), "mean", MEAN, STD)
    torch.manual_seed(0)
    areas, aspects = [], []
    for _ in range(2000):
        result = erase(image)
        assert result.dtype == torch.uint8
        rows, columns = erased_box(image, result)
        patch = result[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert torch.equal(patch, torch.tensor([124, 116, 104], dtype=torch.uint8).view(3, 1, 1).expand_as(patch))
        areas.append(len(rows) * len(columns) / (128 * 64))
        aspects.append(len(rows) / len(columns))
    assert (image == 7).all()
    assert min(areas) > 0.015 and 0.38 < max(areas) < 0.42
    assert min(aspects) > 0.25 and max(aspects) < 3.9
    small = [aspect for area, aspect in zip(areas, aspects, strict=True) if area < 0.1]  # these always fit
    assert abs(np.median(np.log(small)) - (math.log(0.3) + math.log(3.3)) / 2) < 0.12  # log-uniform, not uniform


def test_erasing_places_the_box_everywhere():
    erase, covered = RandomErasing(1.0, (0.1, 0.1), (1.0, 1.0), "mean", MEAN, STD), torch.zeros(20, 20)
    torch.manual_seed(0)
    image = torch.zeros(3, 20, 20, dtype=torch.uint8)
    for _ in range(1500):
        covered += (erase(image) > 0).any(0)
    assert (covered > 0).all()


def test_erasing_an_already_normalised_image_fills_with_its_mean_of_zero():
    image = torch.ones(3, 40, 20)
    result = RandomErasing(1.0, (0.2, 0.2), (1.0, 1.0), "mean", MEAN, STD)(image)
    assert set(result.unique().tolist()) == {0.0, 1.0} and (image == 1).all()


def test_noise_is_standard_normal_after_normalisation():
    image = to_tensor(photo(128, 64))
    erase = RandomErasing(1.0, (0.3, 0.4), (1.0, 1.0), "noise", MEAN, STD)
    torch.manual_seed(0)
    plain = normalize(image, *(torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD)))
    noise = []
    for _ in range(20):
        result = erase(image)
        rows, columns = erased_box(plain, result)
        noise.append(result[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].flatten())
    noise = torch.cat(noise)
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert len(noise.unique()) > 0.9 * len(noise), "per value, not one value a box"


def test_noise_mode_normalises_also_what_it_does_not_erase():
    image = to_tensor(photo(16, 8))
    result = RandomErasing(0.0, (0.02, 0.4), (0.3, 3.3), "noise", MEAN, STD)(image)
    assert torch.equal(result, normalize(image, *(torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))))


def test_box_that_never_fits_leaves_the_image():
    image = to_tensor(photo(16, 8))
    assert torch.equal(RandomErasing(1.0, (1.0, 1.0), (1.0, 1.0), "mean", MEAN, STD)(image), image)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resize((256,)), "height, width"),
        (lambda: Resize((0, 5)), "height, width"),
        (lambda: Resize((5, 5), "lanczos"), "'bilinear' or 'bicubic', got 'lanczos'"),
        (lambda: RandomHorizontalFlip(1.5), "FLIP_PROBABILITY"),
        (lambda: PadAndCrop(-1), "PADDING"),
        (lambda: RandomErasing(2, (0.1, 0.2), (1, 1), "mean", MEAN, STD), "ERASING_PROBABILITY"),
        (lambda: RandomErasing(0.5, (0.3, 0.2), (1, 1), "mean", MEAN, STD), "ERASING_AREA"),
        (lambda: RandomErasing(0.5, (0.3,), (1, 1), "mean", MEAN, STD), r"ERASING_AREA.*got \[0.3\]"),
        (lambda: RandomErasing(0.5, (0.1, 0.2), (0, 1), "mean", MEAN, STD), "ERASING_ASPECT"),
        (lambda: RandomErasing(0.5, (0.1, 0.2), (1, 1), "black", MEAN, STD), "'mean' or 'noise', got 'black'"),
        (lambda: MultiView(Compose([]), Compose([]), -1), "EXTRA_VIEWS must be positive, or 0 .*, got -1"),
    ],
)
def test_refused_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_built_from_the_config():
    cfg = get_cfg()
    cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST = [64, 32], [96, 48]
    image = to_tensor(photo(50, 30))
    train, test = build_transforms(cfg, train=True), build_transforms(cfg, train=False)
    assert isinstance(train, Compose)
    assert [type(step).__name__ for step in train.transforms] == cfg.INPUT.TRAIN_TRANSFORMS
    assert train(image).shape == (3, 64, 32) and train(image).dtype == torch.uint8
    assert torch.equal(test(image), Resize((96, 48), "bilinear")(image))


def test_every_random_decision_comes_from_torchs_generator():
    cfg = get_cfg()
    cfg.INPUT.ERASING_FILL = "noise"
    image, transform = to_tensor(photo(50, 30)), build_transforms(cfg, train=True)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        np.random.seed(len(results))
        results.append(transform(image))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_unknown_transform_is_answered_with_the_known_ones():
    cfg = get_cfg()
    cfg.INPUT.TEST_TRANSFORMS = ["Resise"]
    with pytest.raises(LookupError, match=r"Did you mean 'Resize'"):
        build_transforms(cfg, train=False)


def views_config(number, **inputs):
    cfg = get_cfg()
    cfg.INPUT.SIZE_TRAIN, cfg.INPUT.EXTRA_VIEWS = [64, 32], number
    for name, value in inputs.items():
        cfg.INPUT[name] = value
    return cfg


@pytest.mark.parametrize("fill", ["mean", "noise"])
@pytest.mark.parametrize(
    "names", [["Resize", "RandomHorizontalFlip", "PadAndCrop", "RandomErasing"], ["RandomHorizontalFlip", "Resize"]]
)
def test_extra_views_leave_the_plain_view_as_it_is_and_differ(fill, names):
    image, inputs = to_tensor(photo(50, 30)), {"ERASING_FILL": fill, "TRAIN_TRANSFORMS": names}
    plain, multi = (build_transforms(views_config(number, **inputs), train=True) for number in (0, 2))
    differing = 0
    for seed in range(20):
        torch.manual_seed(seed)
        expected = plain(image)
        torch.manual_seed(seed)
        views = multi(image)
        assert views.shape == (3, 3, 64, 32) and torch.equal(views[0], expected)
        differing += not torch.equal(views[1], views[2])
    assert differing > 5
    assert torch.equal(image, to_tensor(photo(50, 30)))


def test_an_extra_view_is_what_the_transforms_give_with_the_next_random_numbers():
    image, cfg = to_tensor(photo(50, 30)), views_config(2, ERASING_FILL="noise")
    multi = build_transforms(cfg, train=True)
    cfg.INPUT.EXTRA_VIEWS = 0
    plain = build_transforms(cfg, train=True)
    torch.manual_seed(1)
    expected = torch.stack([plain(image) for _ in range(3)])
    torch.manual_seed(1)
    assert torch.equal(multi(image), expected)


def test_extra_views_have_transforms_and_an_exact_erasing_area_of_their_own():
    third, image = 0.3333333333333333, torch.zeros(3, 120, 60, dtype=torch.uint8)
    inputs = {"SIZE_TRAIN": [120, 60], "ERASING_PROBABILITY": 1.0, "TRAIN_TRANSFORMS": ["Resize"]}
    inputs |= {"EXTRA_VIEW_TRANSFORMS": ["Resize", "RandomErasing"], "EXTRA_VIEW_ERASING_AREA": [third, third]}
    cfg = views_config(4, **inputs)
    cfg.freeze()
    multi = build_transforms(cfg, train=True)
    torch.manual_seed(0)
    shares = []
    for _ in range(50):
        views = multi(image)
        assert not views[0].any()
        shares += (views[1:] > 0).any(dim=1).float().mean(dim=(1, 2)).tolist()
    erased = [share for share in shares if share]  # now and then no box fits
    assert len(erased) > 180
    assert max(abs(share - 1 / 3) for share in erased) < 0.012  # whole pixels
    assert cfg.INPUT.ERASING_AREA == get_cfg().INPUT.ERASING_AREA


def test_evaluation_has_no_extra_views():
    assert build_transforms(views_config(2), train=False)(to_tensor(photo(50, 30))).shape == (3, 256, 128)


@pytest.mark.parametrize("names", [["Resize"], ["RandomHorizontalFlip", "RandomErasing"]])
def test_views_that_cannot_be_stacked_are_refused(names):
    cfg = views_config(1, ERASING_FILL="noise", EXTRA_VIEW_TRANSFORMS=names)
    with pytest.raises(ValueError, match=r"plain one is torch.float32 \[3, 64, 32\], a further one torch.*EXTRA"):
        build_transforms(cfg, train=True)(to_tensor(photo(50, 30)))
