import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_core.modeling.clip.positions import check_input_size, resize_parameter, resize_positions

SIDES = st.integers(1, 9)


def resize_plainly(table: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation between cell centres, one cell at a time, in float64."""
    cells = table[1:].reshape(*old, -1).astype(np.float64)
    rows = [table[0].astype(np.float64)]
    for row in range(new[0]):
        for column in range(new[1]):
            total = 0.0
            y = max((row + 0.5) * old[0] / new[0] - 0.5, 0)
            x = max((column + 0.5) * old[1] / new[1] - 0.5, 0)
            top, left = int(y), int(x)
            for near_y, share_y in ((top, 1 - (y - top)), (min(top + 1, old[0] - 1), y - top)):
                for near_x, share_x in ((left, 1 - (x - left)), (min(left + 1, old[1] - 1), x - left)):
                    total = total + share_y * share_x * cells[near_y, near_x]
            rows.append(total)
    return np.stack(rows)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**16))
def test_resizing_matches_a_plain_loop(old_height, old_width, new_height, new_width, seed):
    old, new = (old_height, old_width), (new_height, new_width)
    table = np.random.default_rng(seed).standard_normal((1 + old_height * old_width, 3)).astype(np.float32)
    resized = resize_positions(torch.from_numpy(table), old, new)
    np.testing.assert_allclose(resized.numpy(), resize_plainly(table, old, new), rtol=0, atol=2e-6)


def test_same_grid_changes_nothing():
    table = torch.randn(1 + 6, 4)
    assert torch.equal(resize_positions(table, [2, 3], (2, 3)), table)
    assert not torch.equal(resize_positions(table, (2, 3), (3, 2)), table)  # as many rows, other neighbours


def test_dtype_and_training_flag_are_kept():
    assert resize_positions(torch.randn(5, 4).half(), (2, 2), (3, 2)).dtype == torch.float16
    fixed = torch.nn.Parameter(torch.randn(5, 4), requires_grad=False)
    assert not resize_parameter(fixed, (2, 2), (3, 2)).requires_grad
    assert resize_parameter(torch.nn.Parameter(torch.randn(5, 4)), (2, 2), (3, 2)).requires_grad


def test_wrong_grid_is_refused():
    with pytest.raises(ValueError, match=r"grid 3x2 has shape \[7, D\], got \[5, 4\]"):
        resize_positions(torch.randn(5, 4), (3, 2), (2, 2))


@pytest.mark.parametrize("shape", [(1, 3, 32, 64), (1, 1, 64, 32), (3, 64, 32)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(ValueError, match=r"must be \[B, 3, 64, 32\], got .*position table"):
        check_input_size(torch.zeros(shape), (64, 32))
