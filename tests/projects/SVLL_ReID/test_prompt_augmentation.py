import importlib

import pytest
import torch

from reid_core.config import get_cfg
from reid_core.projects import add_project, import_project
from tests.paths import ROOT

FOLDER = ROOT / "projects" / "SVLL_ReID"
import_project(FOLDER)
augmentation = importlib.import_module("projects.SVLL_ReID.prompt_augmentation")
NAMES = ["mask", "swap", "mix"]


def prompts(number=4, length=10, width=6, seed=0):
    return torch.randn(number, length, width, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def augment(name, *arguments, **options):
    return augmentation.PROMPT_AUGMENTATION_REGISTRY.get(name)(*arguments, **options)


@pytest.mark.parametrize("name", ["swap", "mix"])  # what mask does to a scalar depends on no other
@pytest.mark.parametrize("length", [1, 4, 10])
def test_cut_prompts_are_the_beginning_of_whole_ones(name, length):
    first, second = generator(), generator()
    whole, cut = augment(name, prompts(), 0.5, first), augment(name, prompts(), 0.5, second, length=length)
    assert whole.shape == prompts().shape and torch.equal(cut, whole[:, :length])
    assert torch.equal(first.get_state(), second.get_state())  # and what is drawn next is the same too


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_generator_goes_on_where_it_was(name):
    source = generator()
    augment(name, prompts(), 0.5, source)
    state = source.get_state()
    expected = augment(name, prompts(), 0.5, source)
    resumed = torch.Generator()
    resumed.set_state(state)
    assert torch.equal(augment(name, prompts(), 0.5, resumed), expected)
    torch.manual_seed(5)  # no other source of random numbers
    resumed.set_state(state)
    assert torch.equal(augment(name, prompts(), 0.5, resumed), expected)


@pytest.mark.parametrize("name", NAMES)
def test_scale_zero_changes_nothing_and_the_input_is_never_changed(name):
    given = prompts()
    torch.testing.assert_close(augment(name, given, 0.0, generator()), prompts())
    assert not torch.equal(augment(name, given, 1.0, generator()), prompts())
    assert torch.equal(given, prompts())


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_mask_sets_a_share_of_the_scalars_to_zero_and_keeps_the_rest(scale):
    given = prompts(20, 30, 20)
    result = augment("mask", given, scale, generator())
    zero = result == 0
    assert torch.equal(result[~zero], given[~zero])
    assert abs(zero.float().mean() - scale) < 0.02  # 12000 scalars: more than four standard deviations
    for dims in ((0, 1), (0, 2), (1, 2)):  # evenly over widths, tokens and prompts
        assert (zero.float().mean(dim=dims) - scale).abs().max() < 0.12
    assert not augment("mask", given, 1.0, generator()).any()


@pytest.mark.parametrize(("scale", "moved"), [(0.0, 0), (0.19, 1), (0.5, 5), (1.0, 10)])
def test_swap_permutes_the_asked_number_of_tokens(scale, moved):
    positions, sources = augmentation.draw_swap(prompts().shape, scale, generator())
    assert positions.shape == sources.shape == (4, moved)
    for mine, theirs in zip(positions.tolist(), sources.tolist(), strict=True):
        assert len(set(mine)) == moved and sorted(mine) == sorted(theirs)
    expected = prompts()
    for u in range(4):
        for position, source in zip(positions[u].tolist(), sources[u].tolist(), strict=True):
            expected[u, position] = prompts()[u, source]
    assert torch.equal(augmentation.apply_swap(prompts(), positions, sources), expected)
    assert torch.equal(augment("swap", prompts(), scale, generator()), expected)


def test_swap_reaches_all_positions_and_orders():
    drawn = augmentation.draw_swap(torch.Size([3000, 4, 1]), 0.5, generator())
    pairs = torch.stack(drawn, dim=1).flatten(1).unique(dim=0, return_counts=True)
    assert len(pairs[0]) == 4 * 3 * 2 and pairs[1].min() > 80  # 24 ordered choices, 125 of each expected


def test_mix_adds_a_share_of_another_prompt():
    partners = augmentation.draw_partners(4, generator())
    expected = torch.stack([0.7 * prompts()[u] + 0.3 * prompts()[p] for u, p in enumerate(partners.tolist())])
    torch.testing.assert_close(augment("mix", prompts(), 0.3, generator()), expected)
    torch.testing.assert_close(augment("mix", prompts(), 1.0, generator()), prompts()[partners])


def test_partners_are_all_others_alike():
    source, counts = generator(), torch.zeros(4, 4)
    for _ in range(1500):
        counts[torch.arange(4), augmentation.draw_partners(4, source)] += 1
    assert not counts.diagonal().any()
    assert counts[~torch.eye(4, dtype=torch.bool)].min() > 400


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_the_prompts(name):
    given = prompts().requires_grad_()
    result = augment(name, given, 0.5, generator(), length=7)
    (gradient,) = torch.autograd.grad(result.sum(), given)
    zeroed = (result == 0).sum()
    expected = 4 * 7 * 6 - zeroed  # each scalar of the result is one of the prompts', or shares of two
    torch.testing.assert_close(gradient.sum(), expected.float(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [-0.1, 1.1])
def test_scales_outside_are_refused(name, scale):
    with pytest.raises(ValueError, match=rf"PROMPT_AUGMENTATION_SCALE must be in \[0, 1\], got {scale}"):
        augment(name, prompts(), scale, generator())


def test_a_single_prompt_cannot_be_mixed():
    with pytest.raises(ValueError, match="at least 2 prompts.*got 1.*larger"):
        augment("mix", prompts(1), 0.5, generator())
    for name in ("mask", "swap"):
        assert augment(name, prompts(1), 0.5, generator()).shape == (1, 10, 6)


def test_unknown_names_are_answered():
    with pytest.raises(LookupError, match="prompt augmentation named 'masks'. Did you mean 'mask'?"):
        augment("masks")


def test_the_config_names_an_augmentation_and_a_scale_that_fit():
    cfg = get_cfg()
    add_project(cfg, FOLDER)
    result = augment(cfg.SVLL.PROMPT_AUGMENTATION, prompts(), cfg.SVLL.PROMPT_AUGMENTATION_SCALE, generator())
    assert result.shape == prompts().shape
