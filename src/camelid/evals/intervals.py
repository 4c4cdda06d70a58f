"""How sure a measured accuracy is, and whether two models really differ on the same questions.

Pure functions of numbers; formulas from the papers named, no statistics library.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

import numpy as np

from camelid.errors import WrongCall


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
    """Two evaluations of the same questions: `difference` is the second accuracy minus the first."""

    difference: float
    interval: Interval
    gained: int
    """Questions that only the second has right."""
    lost: int
    """Questions that only the first has right."""
    p_value: float
    """Exact two-sided McNemar test: how often chance alone would part the models at least this much."""
    questions: int


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The Wilson score interval of a proportion; right for few trials and near 0 and 1, unlike p ± z·s.

    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), Wilson 1927, doi:10.1080/01621459.1927.10502953.
    Raises `WrongCall` where there are no trials or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise WrongCall(f"{successes} successes of {trials} trials is no proportion")
    share, z = successes / trials, _z(confidence)
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z * z / trials
    # At the borders the formula is exactly 0 or 1; rounding must not carry it past them.
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


def bootstrap_difference(
    differences: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean of paired differences (Efron 1979, doi:10.1214/aos/1176344552).

    Questions are drawn with their pair of grades, so what makes a question hard for both cancels.
    Drawing n questions is drawing how often each distinct difference occurs, which is multinomial.
    """
    if not differences:
        raise WrongCall("there is no pair to compare")
    values, counts = np.unique(np.asarray(differences, dtype=np.float64), return_counts=True)
    trials = len(differences)
    drawn = np.random.default_rng(seed).multinomial(trials, counts / trials, size=resamples)
    means = drawn @ values / trials
    outside = (1 - confidence) / 2
    low, high = np.quantile(means, [outside, 1 - outside])
    return Interval(float(low), float(high))


def compare_grades(before: Sequence[bool], after: Sequence[bool], *, seed: int = 0) -> Comparison:
    """Compares grades of the same questions in the same order; raises `WrongCall` where the lengths differ."""
    if len(before) != len(after):
        raise WrongCall(f"{len(before)} grades against {len(after)}: they must be of the same questions")
    differences = [int(second) - int(first) for first, second in zip(before, after, strict=True)]
    gained, lost = differences.count(1), differences.count(-1)
    return Comparison(
        difference=sum(differences) / len(differences) if differences else math.nan,
        interval=bootstrap_difference(differences, seed=seed),
        gained=gained,
        lost=lost,
        p_value=mcnemar(gained, lost),
        questions=len(differences),
    )


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise WrongCall(f"confidence is {confidence!r}; it must lie between 0 and 1, as 0.95 does")
    return NormalDist().inv_cdf((1 + confidence) / 2)
