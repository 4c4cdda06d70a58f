"""Chinchilla's law by variable projection: for given exponents, E, A and B are a linear problem."""

import numpy as np
from scipy.optimize import minimize, nnls

from camelid.scaling.huber import Solution
from camelid.scaling.laws import CHINCHILLA
from camelid.scaling.points import Floats, Points

GRID = np.arange(0.05, 1.55, 0.05)
"""Exponents at which the search begins; the finest of them starts the descent."""


def fit_projection(points: Points) -> Solution:
    """The least squares in L over E, A, B >= 0, alpha and beta (Golub and Pereyra 1973).

    With alpha and beta given, the best E, A, B are a non-negative least-squares problem, so the search has
    two dimensions instead of five and no starts to choose. Its minimum has no bias from an approximation, as
    parabolas do (arXiv:2603.22339). The objective is the sum of squares in nats.
    """
    heights = {(a, b): _solve(np.array([a, b]), points)[1] for a in GRID for b in GRID}
    start = np.array(min(heights, key=heights.__getitem__))
    result = minimize(
        lambda powers: _solve(powers, points)[1],
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-14, "maxiter": 2000},
    )
    (e, a, b), height = _solve(result.x, points)
    alpha, beta = map(float, result.x)
    tiny = np.finfo(np.float64).tiny  # a term that is not there still has a logarithm
    constants = {"E": max(e, tiny), "A": max(a, tiny), "alpha": alpha, "B": max(b, tiny), "beta": beta}
    return Solution(CHINCHILLA.theta(constants), height)


def _solve(powers: Floats, points: Points) -> tuple[tuple[float, float, float], float]:
    """E, A, B for these exponents, and the sum of squares."""
    # Relative to the middle of the runs, so that the columns have the same size.
    sizes = np.exp(np.log(points.parameters).mean()), np.exp(np.log(points.tokens).mean())
    columns = (points.parameters / sizes[0]) ** -powers[0], (points.tokens / sizes[1]) ** -powers[1]
    factors, norm = nnls(np.stack([np.ones(len(points)), *columns], axis=1), points.loss)
    e, a, b = map(float, factors)
    return (e, a * float(sizes[0] ** powers[0]), b * float(sizes[1] ** powers[1])), float(norm) ** 2
