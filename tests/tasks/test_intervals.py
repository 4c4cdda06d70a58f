"""Intervals and comparisons against published numbers, brute force and exact enumeration; `test_statistics.py`
has them against scipy and statsmodels."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.base.errors import WrongCall
from camelid.tasks.intervals import bootstrap_mean, cochran, compare_grades, mcnemar, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), Table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_equals_newcombes_table(successes: int, trials: int, low: float, high: float) -> None:
    interval = wilson(successes, trials)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_solve_the_score_equation(counts: tuple[int, int]) -> None:
    successes, trials = counts
    share, z = successes / trials, 1.959963984540054
    interval = wilson(successes, trials)
    assert 0 <= interval.low <= share <= interval.high <= 1
    for end in (interval.low, interval.high):
        assert (share - end) ** 2 == pytest.approx(z * z * end * (1 - end) / trials, abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 4), (5, 4)])
def test_wilson_refuses_what_is_no_proportion(successes: int, trials: int) -> None:
    with pytest.raises(WrongCall, match="need at least one trial"):
        wilson(successes, trials)


@pytest.mark.parametrize("counts", [(0, 0), (3, 1), (1, 3), (5, 5), (0, 8), (7, 2)])
def test_mcnemar_equals_the_enumeration_of_all_signs(counts: tuple[int, int]) -> None:
    gained, lost = counts
    changed = gained + lost
    signs = [sum(outcome) for outcome in product((0, 1), repeat=changed)]
    at_least_as_far = [s for s in signs if abs(s - changed / 2) >= abs(gained - changed / 2)]
    assert mcnemar(gained, lost) == pytest.approx(len(at_least_as_far) / len(signs))


def test_mcnemar_holds_for_many_questions() -> None:
    assert mcnemar(3000, 3000) == 1.0
    assert mcnemar(5000, 100) == pytest.approx(0.0, abs=1e-300)


def test_bootstrap_equals_drawing_questions_one_by_one() -> None:
    differences = [1] * 12 + [-1] * 5 + [0] * 43
    drawn = np.random.default_rng(1).choice(differences, size=(20_000, len(differences))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    interval = bootstrap_mean(differences, resamples=20_000, seed=2)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1.01 / len(differences))


def test_compare_grades_by_hand() -> None:
    before = [True, True, False, False, False, True]
    after = [True, False, True, True, True, True]
    comparison = compare_grades(before, after)
    assert (comparison.gained, comparison.lost, comparison.questions) == (3, 1, 6)
    assert comparison.difference == pytest.approx(2 / 6)
    assert comparison.p_value == 2 * (1 + 4) / 16
    assert comparison == compare_grades(before, after)
    assert math.isclose(comparison.interval.low, -compare_grades(after, before).interval.high, abs_tol=1 / 6)


def test_grades_of_different_questions_are_refused() -> None:
    with pytest.raises(WrongCall, match="same questions"):
        compare_grades([True], [True, False])


def test_cochran_by_hand() -> None:
    """Totals of the ways 4, 2, 1 and of the questions 3, 2, 1, 1: Q = 2 (3 * 21 - 49) / (21 - 15) = 14 /
    3."""
    rows = [[True, True, True, True], [True, True, False, False], [True, False, False, False]]
    assert cochran(rows) == pytest.approx(math.exp(-7 / 3))
    assert cochran([[True, False]] * 3) == 1.0
    assert cochran([[True, True], [False, False]]) == pytest.approx(math.erfc(1.0))
    assert cochran([[True]]) == 1.0
