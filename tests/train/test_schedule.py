"""Learning rates against numbers worked by hand: 11 updates, 2 of warm-up, peak 1, floor 0.1."""

from typing import get_args

import pytest

from camelid.recipes.training import ScheduleName
from camelid.train.schedule import learning_rate

SCHEDULES = get_args(ScheduleName)


def rate(step, schedule, **changes):
    settings = {"steps": 11, "warmup": 2, "peak": 1.0, "floor_ratio": 0.1, "decay_fraction": 0.5} | changes
    return learning_rate(step, schedule=schedule, **settings)


# Progress is 0 at update 2, 1/4 at 4, 1/2 at 6, 3/4 at 8 and 1 at 10.
BY_HAND = {
    "cosine": {2: 1.0, 4: 0.1 + 0.9 * 0.8535533906, 6: 0.55, 8: 0.1 + 0.9 * 0.1464466094, 10: 0.1},
    "linear": {2: 1.0, 4: 0.775, 6: 0.55, 8: 0.325, 10: 0.1},
    "wsd": {2: 1.0, 4: 1.0, 6: 1.0, 8: 0.55, 10: 0.1},
    "inverse_sqrt": {2: 1.0, 4: 0.7071067812, 6: 0.5773502692, 8: 0.5, 10: 0.4472135955},
    "constant": {2: 1.0, 4: 1.0, 6: 1.0, 8: 1.0, 10: 1.0},
}
RAMPED = [schedule for schedule in SCHEDULES if schedule != "inverse_sqrt"]


def test_every_schedule_is_worked_by_hand():
    assert set(BY_HAND) == set(SCHEDULES)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_by_hand(schedule):
    warm_up = {0: 1 / 3, 1: 2 / 3} if schedule in RAMPED else {0: 1.0, 1: 1.0}
    for step, expected in (warm_up | BY_HAND[schedule]).items():
        assert rate(step, schedule) == pytest.approx(expected, abs=1e-9), step
        assert rate(step, schedule, peak=3e-4) == pytest.approx(3e-4 * expected, abs=1e-12), step


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warm_up_the_first_update_has_the_peak(schedule):
    assert rate(0, schedule, warmup=0) == 1.0
    assert rate(0, schedule, warmup=0, steps=1) == 1.0


@pytest.mark.parametrize("schedule", RAMPED)
def test_nothing_but_warm_up(schedule):
    rates = [rate(step, schedule, steps=4, warmup=4) for step in range(4)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_never_leave_floor_and_peak_nor_rise_after_the_warm_up(schedule):
    rates = [rate(step, schedule, steps=100, warmup=10, floor_ratio=0.0) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == 1.0
    assert min(rates) >= 0.0


def test_the_inverse_square_root_of_t5():
    """1 / sqrt(max(n, 10^4)), whatever the number of steps and the floor."""
    settings = {"steps": 2**19, "warmup": 10_000, "peak": 0.01, "floor_ratio": 0.9}
    for step, expected in {0: 0.01, 9_999: 0.01, 10_000: 0.01, 40_000: 0.005, 1_000_000: 0.001}.items():
        assert rate(step, "inverse_sqrt", **settings) == pytest.approx(expected, rel=1e-12)
