"""The forms that `camelid scale fit` knows: each turns runs into named constants."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from camelid.scaling.frontier import Envelope, IsoFlop
from camelid.scaling.huber import Solution, fit_huber
from camelid.scaling.identify import check_different, check_falls, check_identifiable
from camelid.scaling.laws import CHINCHILLA, LAWS, Law, predict
from camelid.scaling.points import Floats, Points
from camelid.scaling.projection import fit_projection

Constants = Mapping[str, float]


class Form(Protocol):
    """A way of turning runs into constants."""

    @property
    def formula(self) -> str:
        """The formula in one line."""

    @property
    def objective(self) -> str:
        """What is minimised, in words."""

    def check(self, points: Points, *, resampled: bool = False) -> None:
        """Raises `CamelidError` if the runs cannot determine the constants; resampled: runs may repeat."""

    def fit(self, points: Points, near: Constants | None = None) -> tuple[dict[str, float], float]:
        """The constants and the objective; near: those of nearly the same runs, as the only start."""

    def loss(self, constants: Constants, points: Points) -> Floats | None:
        """The predicted loss of each point; None for a form that predicts none."""

    def draw(self, points: Points, generator: np.random.Generator) -> Points:
        """A resample of the runs, for the bootstrap."""

    def widen(self, constants: Constants, middle: Constants, points: Points) -> dict[str, float]:
        """A resample's constants, which vary around those of all `points` as other runs' would."""

    def warnings(self, points: Points) -> Iterator[str]:
        """What a reader of the fit has to know about these runs."""


@dataclass(frozen=True)
class LawForm:
    """A law of the loss, fitted by `solve(points, start)`."""

    law: Law
    solve: Callable[[Points, Floats | None], Solution]
    objective: str

    @property
    def formula(self) -> str:
        """The formula in one line."""
        return self.law.formula

    def check(self, points: Points, *, resampled: bool = False) -> None:
        """Raises `CamelidError` if the runs cannot determine the constants."""
        constants = self.law.starts().shape[1]
        check_identifiable(points, self.law.variables, constants)
        if not resampled:
            check_different(points, self.law.variables, constants)

    def fit(self, points: Points, near: Constants | None = None) -> tuple[dict[str, float], float]:
        """The constants and the objective; raises `CamelidError` if the loss does not fall."""
        solution = self.solve(points, None if near is None else self.law.theta(near)[None])
        constants = self.law.constants(solution.theta)
        check_falls(constants)
        return constants, solution.objective

    def loss(self, constants: Constants, points: Points) -> Floats:
        """The predicted loss of each point."""
        return predict(self.law, self.law.theta(constants), points)

    def draw(self, points: Points, generator: np.random.Generator) -> Points:
        """As many runs, with replacement."""
        return points.take(generator.integers(0, len(points), len(points)))

    def widen(self, constants: Constants, middle: Constants, points: Points) -> dict[str, float]:
        """The constants: runs drawn with replacement vary as other runs would."""
        return dict(constants)

    def warnings(self, points: Points) -> Iterator[str]:
        """Nothing: runs off the law are found by their errors."""
        yield from ()


def _huber(law: Law) -> LawForm:
    return LawForm(law, lambda points, start: fit_huber(law, points, start), "sum of Huber losses of ln L")


FORMS: Mapping[str, Form] = {
    **{name: _huber(law) for name, law in LAWS.items()},
    "projection": LawForm(CHINCHILLA, lambda points, _: fit_projection(points), "sum of squares of L"),
    "isoflop": IsoFlop("parabola"),
    "akima": IsoFlop("akima"),
    "envelope": Envelope(),
}
"""The forms by name."""


def frontier(constants: Constants) -> dict[str, float]:
    """The compute-optimal N = G (C / 6)^a and D = (C / 6)^b / G of Chinchilla's law.

    G = (alpha A / (beta B))^(1 / (alpha + beta)), a = beta / (alpha + beta) (Hoffmann et al. 2022, eq. 4).
    """
    alpha, beta = constants["alpha"], constants["beta"]
    scale = (alpha * constants["A"] / (beta * constants["B"])) ** (1 / (alpha + beta))
    return {"a": beta / (alpha + beta), "b": alpha / (alpha + beta), "G": float(np.float64(scale))}
