"""Fits a law by the Huber loss of its errors in ln L, from a grid of starts."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from camelid.scaling.laws import Law
from camelid.scaling.points import Floats, Points

DELTA = 1e-3
"""Where the Huber loss turns from squares to absolute values (Hoffmann et al. 2022, app. D.2)."""
DESCENTS = 20
"""Starts that are descended from: those with the lowest objective."""


@dataclass(frozen=True)
class Solution:
    """The best vector of constants, and its objective: the sum of the Huber losses."""

    theta: Floats
    objective: float


def objective(theta: Floats, law: Law, points: Points, delta: float = DELTA) -> tuple[float, Floats]:
    """The sum over the points of Huber(ln L(theta) - ln L), and its gradient.

    The sum, not the mean: a mean is so small that L-BFGS-B's tolerances end the descent early, which is what
    Besiroglu et al. 2024 (arXiv:2404.10102) found in the published fit.
    """
    value, slopes = law.log_loss(theta, points)
    error = value - np.log(points.loss)
    size = np.abs(error)
    near = size <= delta
    total = np.where(near, 0.5 * error**2, delta * (size - 0.5 * delta)).sum()
    return float(total), slopes.T @ np.where(near, error, delta * np.sign(error))


def fit_huber(law: Law, points: Points, starts: Floats | None = None, delta: float = DELTA) -> Solution:
    """The lowest end of L-BFGS-B descents from the `DESCENTS` best starts (by default, of the law's grid)."""
    grid = law.starts() if starts is None else starts
    if len(grid) > DESCENTS:
        heights = np.array([objective(start, law, points, delta)[0] for start in grid])
        grid = grid[np.argsort(heights, kind="stable")[:DESCENTS]]
    return min((_descend(law, points, start, delta) for start in grid), key=lambda each: each.objective)


def _descend(law: Law, points: Points, start: Floats, delta: float) -> Solution:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        result = minimize(
            objective,
            start,
            args=(law, points, delta),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 3000, "ftol": 1e-14, "gtol": 1e-11},
        )
    value = float(result.fun)
    return Solution(np.asarray(result.x), value if np.isfinite(value) else np.inf)
