"""Scaling laws as formulas: the logarithm of the loss of runs, and its derivatives by the free constants."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np

from camelid.scaling.points import PF_DAY, Floats, Points, Variable

LETTERS: Mapping[Variable, tuple[str, str, str]] = {
    "parameters": ("N", "A", "alpha"),
    "tokens": ("D", "B", "beta"),
    "flops": ("C", "G", "gamma"),
}
"""The letter of each variable, and the names of its factor and exponent."""
UNITS: Mapping[Variable, float] = {"parameters": 1.0, "tokens": 1.0, "flops": PF_DAY}
"""The unit of Kaplan's constants Nc, Dc and Cc."""
FACTORS, EXPONENTS, FLOORS = np.arange(0, 26, 5.0), np.arange(0, 2.1, 0.5), np.arange(-1, 1.1, 0.5)
"""The grid of starts, in ln A, alpha and ln E (Hoffmann et al. 2022, arXiv:2203.15556, app. D.2)."""


class Law(Protocol):
    """A formula with free constants, held as a vector `theta` in which the optimiser moves freely."""

    @property
    def variables(self) -> tuple[Variable, ...]:
        """What the loss depends on."""

    @property
    def formula(self) -> str:
        """The formula in one line."""

    def log_loss(self, theta: Floats, points: Points) -> tuple[Floats, Floats]:
        """Ln L of each point, and its derivatives by theta: [points] and [points, constants]."""

    def starts(self) -> Floats:
        """Vectors to descend from: [starts, constants]."""

    def constants(self, theta: Floats) -> dict[str, float]:
        """The constants by the names of the paper."""

    def theta(self, constants: Mapping[str, float]) -> Floats:
        """The inverse of `constants`."""


@dataclass(frozen=True)
class PowerSum:
    """L = E + sum of A / x^alpha over the variables; without a floor E, a plain power law (xc / x)^alpha.

    Two variables with a floor: Hoffmann et al. 2022 (arXiv:2203.15556), eq. 2. One without: Kaplan et al.
    2020 (arXiv:2001.08361), eq. 1.1 to 1.3. theta = ln A and alpha of each variable, then ln E.
    """

    variables: tuple[Variable, ...]
    floor: bool = True

    @property
    def formula(self) -> str:
        """The formula in one line."""
        terms = [(letter, *names) for letter, *names in (LETTERS[each] for each in self.variables)]
        if self.floor:
            return " + ".join(["L = E", *(f"{a} / {x}^{power}" for x, a, power in terms)])
        [(x, _, power)] = terms
        return f"L = ({x}c / {x})^{power}"

    def log_loss(self, theta: Floats, points: Points) -> tuple[Floats, Floats]:
        """Ln L of each point, by log-sum-exp of its terms, and its derivatives."""
        logs = [np.log(points.column(each)) for each in self.variables]
        terms = [theta[2 * k] - theta[2 * k + 1] * x for k, x in enumerate(logs)]
        if self.floor:
            terms.append(np.full(len(points), theta[-1]))
        stacked = np.stack(terms)
        value: Floats = np.logaddexp.reduce(stacked)
        shares = np.exp(stacked - value)
        slopes = [slope for share, x in zip(shares, logs, strict=False) for slope in (share, -share * x)]
        return value, np.stack([*slopes, shares[-1]] if self.floor else slopes, axis=1)

    def starts(self) -> Floats:
        """Hoffmann's grid."""
        axes = [FACTORS, EXPONENTS] * len(self.variables) + [FLOORS] * self.floor
        return np.array(list(product(*axes)))

    def constants(self, theta: Floats) -> dict[str, float]:
        """E, and A, alpha of each variable; for a plain power law xc and alpha."""
        named = {"E": float(np.exp(theta[-1]))} if self.floor else {}
        for k, variable in enumerate(self.variables):
            letter, factor, power = LETTERS[variable]
            if self.floor:
                named[factor] = float(np.exp(theta[2 * k]))
            else:
                with np.errstate(over="ignore", divide="ignore"):
                    named[f"{letter}c"] = float(np.exp(theta[2 * k] / theta[2 * k + 1])) / UNITS[variable]
            named[power] = float(theta[2 * k + 1])
        return named

    def theta(self, constants: Mapping[str, float]) -> Floats:
        """The vector of named constants."""
        values = []
        for letter, factor, power in (LETTERS[each] for each in self.variables):
            exponent = constants[power]
            unit = UNITS[self.variables[0]]
            log = np.log(constants[factor] if self.floor else constants[f"{letter}c"] * unit)
            values += [log if self.floor else exponent * log, exponent]
        return np.array([*values, *([np.log(constants["E"])] if self.floor else [])])


@dataclass(frozen=True)
class KaplanJoint:
    """L = [(Nc / N)^(alpha / beta) + Dc / D]^beta (Kaplan et al. 2020, arXiv:2001.08361, eq. 1.5).

    theta = ln Nc, ln Dc, alpha, beta, with alpha for N and beta for D.
    """

    variables: tuple[Variable, ...] = ("parameters", "tokens")
    formula: str = "L = ((Nc / N)^(alpha / beta) + Dc / D)^beta"

    def log_loss(self, theta: Floats, points: Points) -> tuple[Floats, Floats]:
        """Ln L of each point and its derivatives."""
        nc, dc, alpha, beta = theta
        size, tokens = nc - np.log(points.parameters), dc - np.log(points.tokens)
        ratio = alpha / beta
        whole: Floats = np.logaddexp(ratio * size, tokens)
        share = np.exp(ratio * size - whole)
        slopes = (alpha * share, beta * (1 - share), share * size, whole - share * ratio * size)
        return beta * whole, np.stack(slopes, axis=1)

    def starts(self) -> Floats:
        """A grid around what text gives: Nc, Dc of e^20 to e^40, exponents of 0.05 to 0.4."""
        scales, powers = np.array([20.0, 30.0, 40.0]), np.array([0.05, 0.1, 0.2, 0.4])
        return np.array(list(product(scales, scales, powers, powers)))

    def constants(self, theta: Floats) -> dict[str, float]:
        """Nc, Dc, alpha, beta."""
        nc, dc, alpha, beta = map(float, theta)
        return {"Nc": float(np.exp(nc)), "Dc": float(np.exp(dc)), "alpha": alpha, "beta": beta}

    def theta(self, constants: Mapping[str, float]) -> Floats:
        """The vector of named constants."""
        logs = [np.log(constants[name]) for name in ("Nc", "Dc")]
        return np.array([*logs, constants["alpha"], constants["beta"]])


CHINCHILLA = PowerSum(("parameters", "tokens"))
LAWS: Mapping[str, Law] = {
    "chinchilla": CHINCHILLA,
    "kaplan": KaplanJoint(),
    "kaplan-n": PowerSum(("parameters",), floor=False),
    "kaplan-d": PowerSum(("tokens",), floor=False),
    "kaplan-c": PowerSum(("flops",), floor=False),
    "saturating-n": PowerSum(("parameters",)),
    "saturating-d": PowerSum(("tokens",)),
    "saturating-c": PowerSum(("flops",)),
}
"""The laws of the loss by name."""


def predict(law: Law, theta: Floats, points: Points) -> Floats:
    """The loss of each point, in nats per token."""
    return np.exp(law.log_loss(theta, points)[0])
