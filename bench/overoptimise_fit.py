"""What bench/overoptimise.py measured, summed up: methods at equal KL, and the forms of Gao et al.
(arXiv:2210.10760).

With d = sqrt(KL), the gold reward gained is d (alpha - beta d) for best-of-n and d (alpha - beta ln d) for
reinforcement learning. Both are linear in alpha and beta, so least squares gives them. Intervals are of 95 %,
from resampled orders, which all methods share.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Curve = Sequence[Mapping[str, Any]]
Found = Mapping[str, Any]
LEVELS = (0.25, 0.5, 1.0, 2.0)
"""Distances in nats at which methods are compared."""
DRAWS = 1000
BEST_OF_N, CONDITIONAL = "best_of_n", "conditional"


def policies_summary(seeds: Sequence[Found]) -> Found:
    """The curves, the methods at equal KL, and the constants of each."""
    curves = {name: [each[name] for each in seeds] for name in seeds[0]}
    base = curves[BEST_OF_N]
    by_distance = {name: each for name, each in curves.items() if name != CONDITIONAL}
    return {
        "seeds": len(seeds),
        "orders": len(base[0][0]["gold"]),
        "base": _estimate(lambda chosen: _mean([each[0]["gold"] for each in base], chosen), _count(base)),
        "curves": {name: [_plain(curve) for curve in each] for name, each in curves.items()},
        "levels": {name: _levels(each, base) for name, each in by_distance.items()},
        "forms": {name: _form(name, each, base) for name, each in by_distance.items()},
        "gains": {name: _gain(each, base) for name, each in curves.items()},
    }


def rewards_summary(seeds: Sequence[Found]) -> Found:
    """Of each reward model: how many pairs it orders well, its best of n, and the constants of that."""
    rows = {}
    for name in seeds[0]:
        ordered = np.array([each[name]["ordered"] for each in seeds]).sum(0)
        curves = [each[name][BEST_OF_N] for each in seeds]

        def accuracy(chosen: Floats, ordered: Floats = ordered) -> float:
            pairs, well = ordered[chosen].sum(0)
            return float(well / pairs)

        rows[name] = {
            "pairs": int(ordered[:, 0].sum()),
            "accuracy": _estimate(accuracy, len(ordered)),
            "gain": _gain(curves, curves),
            "form": _form(BEST_OF_N, curves, curves),
        }
    return {"seeds": len(seeds), "rows": rows}


def _plain(curve: Curve) -> list[dict[str, float]]:
    """A curve's points without their orders."""
    return [{**point, "gold": float(np.mean(point["gold"]))} for point in curve]


def _count(curves: Sequence[Curve]) -> int:
    return len(curves[0][0]["gold"])


def _mean(rows: Sequence[Sequence[float]], chosen: Floats) -> float:
    return float(np.array(rows)[:, chosen].mean())


def _estimate(value: Callable[[Floats], float], orders: int) -> dict[str, float]:
    """A quantity of all orders, with its interval over resampled ones."""
    dice = np.random.default_rng(0)
    draws = [value(dice.integers(orders, size=orders)) for _ in range(DRAWS)]
    low, high = np.percentile(draws, (2.5, 97.5))
    return {"value": value(np.arange(orders)), "low": float(low), "high": float(high)}


def _gain(curves: Sequence[Curve], base: Sequence[Curve]) -> dict[str, float]:
    """What the last point of each curve gains over the tuned model."""

    def gain(chosen: Floats) -> float:
        last, first = [each[-1]["gold"] for each in curves], [each[0]["gold"] for each in base]
        return _mean(last, chosen) - _mean(first, chosen)

    return _estimate(gain, _count(base))


def _levels(curves: Sequence[Curve], base: Sequence[Curve]) -> dict[str, dict[str, float]]:
    """What is gained at each distance that the curves of all seeds reach, between whose points values are
    interpolated in d; the curves begin with the tuned model."""
    reached = min(max(point["kl"] for point in curve) for curve in curves)

    def at(level: float, chosen: Floats) -> float:
        gains = []
        for d, gain in _points(curves, base, chosen):
            order = np.argsort(d)
            gains.append(np.interp(math.sqrt(level), [0, *d[order]], [0, *gain[order]]))
        return float(np.mean(gains))

    return {
        str(level): _estimate(lambda chosen, level=level: at(level, chosen), _count(base))
        for level in LEVELS
        if level <= reached
    }


def _points(
    curves: Sequence[Curve], base: Sequence[Curve], chosen: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """d and the gain in gold of each seed, over these orders."""
    for curve, of_base in zip(curves, base, strict=True):
        before = _mean([of_base[0]["gold"]], chosen)
        points = [point for point in curve if point["kl"] > 0]
        yield (
            np.sqrt([point["kl"] for point in points]),
            np.array([_mean([point["gold"]], chosen) - before for point in points]),
        )


def _form(name: str, curves: Sequence[Curve], base: Sequence[Curve]) -> dict[str, Any]:
    """Alpha, beta, the share of the variance explained, and the nats at which the form is highest."""

    def constants(chosen: Floats) -> tuple[float, float, float]:
        d, gain = (np.concatenate(each) for each in zip(*_points(curves, base, chosen), strict=True))
        columns = np.stack([d, -(d**2) if name == BEST_OF_N else -d * np.log(d)], 1)
        (alpha, beta), *_ = np.linalg.lstsq(columns, gain, rcond=None)
        left = gain - columns @ (alpha, beta)
        return float(alpha), float(beta), 1 - float(left @ left / ((gain - gain.mean()) ** 2).sum())

    alpha, beta, explained = constants(np.arange(_count(base)))
    return {
        "alpha": _estimate(lambda chosen: constants(chosen)[0], _count(base)),
        "beta": _estimate(lambda chosen: constants(chosen)[1], _count(base)),
        "explained": explained,
        "peak": _peak(name, alpha, beta),
        "furthest": max(point["kl"] for curve in curves for point in curve),
    }


def _peak(name: str, alpha: float, beta: float) -> float | None:
    """The nats at which the form is highest; None where it only falls, or rises beyond all measure."""
    if min(alpha, beta) <= 0 or alpha > 10 * beta:
        return None
    return (alpha / (2 * beta)) ** 2 if name == BEST_OF_N else math.exp(2 * (alpha / beta - 1))
