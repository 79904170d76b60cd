import math

import pytest

from reid_core.config import ConfigError, get_cfg
from reid_core.solver.schedule import WarmupCosine, WarmupMultiStep, build_schedule


def test_multistep_is_the_product_of_warm_up_and_steps():
    schedule = WarmupMultiStep([3, 5], 0.1, 4, 0.2, "linear")
    warm = [0.2, 0.4, 0.6, 0.8, 1, 1, 1]
    steps = [1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    for index, expected in enumerate(a * b for a, b in zip(warm, steps, strict=True)):
        assert schedule(index, 2.0) == pytest.approx(2 * expected)


def test_constant_warm_up():
    schedule = WarmupMultiStep([], 0.1, 2, 0.5, "constant")
    assert [schedule(index, 1.0) for index in range(4)] == [0.5, 0.5, 1.0, 1.0]


def test_cosine_falls_from_the_end_of_the_warm_up_to_the_smallest_rate():
    schedule = WarmupCosine(20, 1e-6, 5, 1e-5)
    rates = [schedule(index, 1e-3) for index in range(25)]
    assert rates[0] == 1e-5
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[10] == pytest.approx(1e-6 + 0.5 * (1e-3 - 1e-6) * (1 + math.cos(math.pi / 2)))
    assert set(rates[20:]) == {1e-6}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WarmupMultiStep([5, 3], 0.1, 0, 0.1, "linear"), "must rise"),
        (lambda: WarmupMultiStep([5], 0.1, 0, 0.1, "quadratic"), "WARMUP_METHOD"),
        (lambda: WarmupCosine(-1, 0, 0, 0), "MAX_EPOCHS"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_from_config():
    solver = get_cfg().SOLVER
    assert build_schedule(solver)(0, 1.0) == pytest.approx(solver.WARMUP_FACTOR)
    solver.SCHEDULE = "WarmupCosine"
    assert build_schedule(solver)(0, 1.0) == solver.WARMUP_LR
