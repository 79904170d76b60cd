"""Places among the matches by bisection, against a count one at a time."""

import numpy as np
import pytest
import torch

from reid_core.evaluation.counting import _bisect


@pytest.mark.parametrize("width", [1, 2, 8, 64])
@pytest.mark.parametrize("ties", [False, True])
def test_places_are_numbers_of_smaller_entries(width, ties):
    generator = np.random.default_rng(width)
    table = np.sort(generator.integers(0, 9, (5, width)).astype(np.float32), axis=1)
    table[:, generator.integers(0, width) :] = np.inf
    table[:, -1] = np.inf
    order = np.sort(generator.integers(0, 50, (5, width)), axis=1)  # rising, as the gallery's order is at a tie
    rows, values, places = generator.integers(0, 5, 300), generator.integers(0, 9, 300), generator.integers(0, 50, 300)
    extra = (torch.from_numpy(order), torch.from_numpy(places)) if ties else ()
    found = _bisect(torch.from_numpy(table), torch.from_numpy(rows).int(), torch.from_numpy(values).float(), *extra)
    for place, row, value, position in zip(found.tolist(), rows, values, places, strict=True):
        before = (table[row] < value) | (ties & (table[row] == value) & (order[row] < position))
        assert place == row * width + before.sum()
