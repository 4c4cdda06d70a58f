"""Confidence intervals of accuracies, and paired comparisons of two models on the same questions.

Pure functions of numbers; the formulas are from the cited papers, without a statistics library.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

import numpy as np

from camelid.base.errors import WrongCall

RESAMPLES_AT_ONCE = 500


@dataclass(frozen=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the distance between the ends: what tables print after `±`."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same questions: `difference` is the second mean minus the first."""

    difference: float
    interval: Interval
    gained: int
    """Questions that only the second answers correctly, or for graded degrees answers better."""
    lost: int
    """Questions that only the first answers correctly, or answers better."""
    p_value: float
    """Exact two-sided McNemar test: the probability of at least this difference by chance."""
    questions: int


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The Wilson score interval of a proportion; valid for few trials and near 0 and 1, unlike p ± z·s.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), Wilson 1927, doi:10.1080/01621459.1927.10502953.
    Raises `WrongCall` if there are no trials or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise WrongCall(
            f"{successes} successes of {trials} trials: need at least one trial, and at most one success each"
        )
    share, z = successes / trials, _z(confidence)
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z * z / trials
    # At 0 and 1 the formula is exact; rounding must not move it outside.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return Interval(low, high)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p-value that gains and losses are equally likely (McNemar 1947; a sign test).

    min(1, 2 Σ_{i≤min(gained,lost)} C(n,i) / 2ⁿ) over the n = gained + lost questions that changed.
    """
    changed, fewer = gained + lost, min(gained, lost)
    tail = term = 1
    for i in range(fewer):
        term = term * (changed - i) // (i + 1)
        tail += term
    return min(1.0, float(Fraction(2 * tail, 2**changed)))


def bootstrap_mean(
    sample: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of a mean (Efron 1979, doi:10.1214/aos/1176344552).

    For paired differences, each question is drawn with both of its grades, so its difficulty cancels. Drawing
    n questions amounts to drawing the count of each distinct value, which is multinomial.
    """
    if not sample:
        raise WrongCall("the sample is empty: there are no questions to draw from")
    values, counts = np.unique(np.asarray(sample, dtype=np.float64), return_counts=True)
    trials, generator = len(sample), np.random.default_rng(seed)
    # If values hardly repeat, each row of counts is as long as the sample: limit the resamples at a time.
    pieces = [min(RESAMPLES_AT_ONCE, resamples - done) for done in range(0, resamples, RESAMPLES_AT_ONCE)]
    means = np.concatenate(
        [generator.multinomial(trials, counts / trials, size=piece) @ values / trials for piece in pieces]
    )
    outside = (1 - confidence) / 2
    low, high = np.quantile(means, [outside, 1 - outside])
    return Interval(float(low), float(high))


def compare_grades(before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> Comparison:
    """Compares grades of the same questions in the same order; raises `WrongCall` if the lengths differ."""
    if len(before) != len(after):
        raise WrongCall(f"{len(before)} grades against {len(after)}: they must be of the same questions")
    differences = [second - first for first, second in zip(before, after, strict=True)]
    gained, lost = sum(change > 0 for change in differences), sum(change < 0 for change in differences)
    return Comparison(
        difference=sum(differences) / len(differences) if differences else math.nan,
        interval=bootstrap_mean(differences, seed=seed),
        gained=gained,
        lost=lost,
        p_value=mcnemar(gained, lost),
        questions=len(differences),
    )


def cochran(rows: Sequence[Sequence[bool]]) -> float:
    """The p-value that several ways have the same accuracy on the same questions (Cochran's Q test, 1950).

    rows: for each way, whether each question was answered correctly. Q = (k-1)(k Σ Gⱼ² - (Σ Gⱼ)²) /
    (k Σ Lᵢ - Σ Lᵢ²) with the totals G of the k ways and L of the questions; under the hypothesis it is
    distributed as χ² with k - 1 degrees of freedom if there are enough questions. 1 if the ways do not
    differ.
    """
    ways = [sum(row) for row in rows]
    questions = [sum(column) for column in zip(*rows, strict=True)]
    count = len(rows)
    scale = count * sum(questions) - sum(total * total for total in questions)
    if count < 2 or scale == 0:
        return 1.0
    q = (count - 1) * (count * sum(total * total for total in ways) - sum(ways) ** 2) / scale
    return chi_squared_tail(q, count - 1)


def chi_squared_tail(value: float, degrees: int) -> float:
    """P(χ² ≥ value) for a whole number of degrees of freedom; a finite sum, Abramowitz and Stegun
    26.4.4-5."""
    half = value / 2
    if degrees % 2 == 0:
        return math.exp(-half) * sum(math.pow(half, i) / math.gamma(i + 1) for i in range(degrees // 2))
    terms = sum(math.pow(half, i + 0.5) / math.gamma(i + 1.5) for i in range(degrees // 2))
    return math.erfc(math.sqrt(half)) + math.exp(-half) * terms


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise WrongCall(f"confidence is {confidence!r}; it must be between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + confidence) / 2)
