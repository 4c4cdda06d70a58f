"""Intervals, tests and entropies against scipy and statsmodels."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import proportion_confint

from camelid.prompting.ordering import global_entropy, local_entropy
from camelid.tasks.intervals import (
    bootstrap_mean,
    chi_squared_tail,
    cochran,
    compare_grades,
    mcnemar,
    wilson,
)

COUNTS = [(0, 1), (1, 1), (0, 20), (7, 20), (20, 20), (1, 1319), (659, 1319), (1318, 1319), (3, 100_000)]


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "trials"), COUNTS)
def test_wilson_intervals(successes: int, trials: int, confidence: float) -> None:
    ours = wilson(successes, trials, confidence)
    theirs = proportion_confint(successes, trials, alpha=1 - confidence, method="wilson")
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=1e-12)
    again = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((again.low, again.high), abs=1e-12)


def test_wilson_covers_as_often_as_it_says() -> None:
    """Over all outcomes of 50 questions, by their exact probabilities: 95 % on average over accuracies."""
    intervals = [wilson(hits, 50) for hits in range(51)]
    accuracies = np.linspace(0.02, 0.98, 97)
    covered = [
        sum(stats.binom.pmf(n, 50, p) for n, each in enumerate(intervals) if each.low <= p <= each.high)
        for p in accuracies
    ]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.85


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (0, 1), (1, 0), (5, 5), (3, 11), (40, 22), (0, 30), (700, 610), (1, 2000)]
)
def test_mcnemar_is_the_exact_one(gained: int, lost: int) -> None:
    table = [[100, lost], [gained, 50]]
    expected = contingency_tables.mcnemar(table, exact=True).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)
    if gained + lost:
        sign = stats.binomtest(gained, gained + lost).pvalue
        assert mcnemar(gained, lost) == pytest.approx(sign, rel=1e-9)


@pytest.mark.parametrize("kind", ["right or wrong", "graded", "one value"])
def test_bootstrap_intervals_of_paired_differences(kind: str) -> None:
    generator = np.random.default_rng(3)
    before, after = generator.random(200) < 0.4, generator.random(200) < 0.55
    if kind == "graded":
        before, after = generator.random(200), np.clip(generator.normal(0.6, 0.2, 200), 0, 1)
    elif kind == "one value":
        after = before
    ours = compare_grades([*map(float, before)], [*map(float, after)], seed=1)
    differences = after.astype(float) - before.astype(float)
    assert ours.difference == pytest.approx(differences.mean())
    if kind == "one value":
        assert (ours.interval.low, ours.interval.high) == (0, 0)
        return
    theirs = stats.bootstrap(
        (differences,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    error = differences.std() / np.sqrt(200) * 0.06
    assert (ours.interval.low, ours.interval.high) == pytest.approx((theirs.low, theirs.high), abs=error)
    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    assert ours.p_value == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)


def test_bootstrap_of_many_questions_is_nearly_the_normal_interval() -> None:
    sample = np.random.default_rng(5).exponential(size=800)
    ours = bootstrap_mean([*sample], confidence=0.9)
    half = stats.t.ppf(0.95, 799) * stats.sem(sample)
    assert (ours.low, ours.high) == pytest.approx(
        (sample.mean() - half, sample.mean() + half), abs=0.1 * half
    )


@pytest.mark.parametrize("ways", [2, 3, 8, 24])
def test_cochrans_test(ways: int) -> None:
    generator = np.random.default_rng(ways)
    rows = generator.random((ways, 60)) < np.linspace(0.3, 0.7, ways)[:, None]
    assert cochran(rows.tolist()) == pytest.approx(contingency_tables.cochrans_q(rows.T).pvalue, rel=1e-9)


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 15, 40])
def test_tails_of_chi_squared(degrees: int) -> None:
    for value in (0.0, 0.1, 1.0, 5.0, 30.0, 200.0):
        assert chi_squared_tail(value, degrees) == pytest.approx(stats.chi2.sf(value, degrees), rel=1e-9)


def test_entropies_of_orders() -> None:
    labels = ["yes"] * 7 + ["no"] * 2 + ["maybe"]
    assert global_entropy(labels) == pytest.approx(stats.entropy([7, 2, 1]))
    rows = np.random.default_rng(0).dirichlet([1, 2, 3], 20)
    assert local_entropy(rows.tolist()) == pytest.approx(stats.entropy(rows, axis=1).mean())
