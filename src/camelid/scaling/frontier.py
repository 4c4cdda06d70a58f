"""The compute-optimal size without a law of the loss: IsoFLOP curves and the envelope of training curves.

Both find the size with the lowest loss at each of several budgets C and fit N = g C^a and D = h C^b to them
(Hoffmann et al. 2022, arXiv:2203.15556, section 3, approaches 1 and 2).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator

from camelid.base.errors import CamelidError
from camelid.scaling.laws import CHINCHILLA, predict
from camelid.scaling.points import Floats, Points
from camelid.scaling.projection import fit_projection

SAME_BUDGET = 0.05
"""Budgets whose logarithms differ by less are one: a run ends after a whole step."""
LEAST_SIZES, LEAST_BUDGETS = 4, 3
WIDE = np.log(3.0)
"""Distance in ln N of the sizes from the best beyond which a loss curve is no longer a parabola."""
OFF_CENTRE = 0.25
"""Distance of the best size from the middle of the sizes, as a share of their half-width."""
FINE, BUDGETS = 2000, 1500
"""Sizes at which a spline is read, and budgets at which the envelope is (the paper's 1500)."""
SHARE = 0.8
"""Share of the runs in a resample, without replacement, as in the paper."""


class Best(NamedTuple):
    """The best size at a budget, its tokens and loss."""

    flops: float
    parameters: float
    tokens: float
    loss: float


class Frontier(ABC):
    """Power laws of the best sizes; how these are found is what the two approaches differ in."""

    formula: ClassVar[str] = "N = g C^a, D = h C^b"
    objective: ClassVar[str] = "squares of ln N and of ln D over the budgets"

    @abstractmethod
    def best(self, points: Points) -> Iterator[Best]:
        """The best size at each budget."""

    def fit(self, points: Points, near: Mapping[str, float] | None = None) -> tuple[dict[str, float], float]:
        """The constants of the frontier, and the squares that are left."""
        return power_laws(list(self.best(points)))

    def loss(self, constants: Mapping[str, float], points: Points) -> None:  # noqa: B027
        """The frontier predicts no loss."""

    def draw(self, points: Points, generator: np.random.Generator) -> Points:
        """`SHARE` of the runs, without replacement."""
        units = self.units(points)
        drawn = generator.choice(units.max() + 1, _drawn(units), replace=False)
        return points.take(np.isin(units, drawn))

    def units(self, points: Points) -> NDArray[np.intp]:
        """Which of the units that are drawn each point belongs to: by default one of its own."""
        return np.arange(len(points))

    def widen(
        self, constants: Mapping[str, float], middle: Mapping[str, float], points: Points
    ) -> dict[str, float]:
        """A resample's constants at sqrt(f / (1 - f)) times their distance from those of all runs: in a and
        b, and in the logarithms of g and h.

        A share f, drawn without replacement, has (1 - f) / f of the variance that other runs would have (the
        delete-d jackknife, Shao and Wu 1989, Annals of Statistics 17(3)). So it is for many runs; with few
        sizes, resamples vary more than that, and intervals are rather too wide (docs/scaling.md).
        """
        units = self.units(points)
        drawn = _drawn(units)
        stretch = (drawn / (units.max() + 1 - drawn)) ** 0.5
        widened = {name: middle[name] + stretch * (constants[name] - middle[name]) for name in "ab"}
        for name in "gh":
            with np.errstate(over="ignore", under="ignore"):
                ratio = np.power(np.float64(constants[name]) / middle[name], stretch)
                widened[name] = float(middle[name] * ratio)
        return {name: widened[name] for name in constants}


@dataclass(frozen=True)
class IsoFlop(Frontier):
    """For each budget the best size on a curve through the final losses of several sizes.

    parabola: least squares in ln N (the paper's); akima: an Akima spline through the losses, as Porian et al.
    2024 (arXiv:2406.19146).
    """

    curve: Literal["parabola", "akima"]

    def best(self, points: Points) -> Iterator[Best]:
        """The best size of each budget whose sizes enclose it."""
        for runs in points.by("flops", SAME_BUDGET):
            if len(runs.levels("parameters")) >= LEAST_SIZES and (found := self._best_of(runs)):
                yield found

    def check(self, points: Points, *, resampled: bool = False) -> None:
        """Raises `CamelidError` if fewer than `LEAST_BUDGETS` budgets enclose their best size."""
        found = list(self.best(points))
        if len(found) < LEAST_BUDGETS:
            raise CamelidError(
                f"{len(found)} budgets have at least {LEAST_SIZES} sizes with the lowest loss between them, "
                f"and {LEAST_BUDGETS} are needed; give runs of several sizes at equal FLOPs, on both sides "
                "of the best"
            )

    def warnings(self, points: Points) -> Iterator[str]:
        """Grids that are wide or off-centre, where parabolas are biased even without noise, and the bias.

        The bias (arXiv:2603.22339) is measured: the same runs with exact losses of the law fitted to them.
        """
        if self.curve != "parabola":
            return
        found = list(self.best(points))
        budgets = [runs for runs in points.by("flops", SAME_BUDGET) if len(runs.levels("parameters")) > 1]
        if len(found) < len(budgets):
            yield f"{len(budgets) - len(found)} of {len(budgets)} budgets do not enclose their best size"
        shapes = [_shape(runs, best) for runs in budgets for best in found if best.flops == _budget(runs)]
        if wide := sum(width > WIDE for width, _ in shapes):
            yield f"{wide} budgets have sizes more than {np.exp(WIDE):g} times off the best: not a parabola"
        if off := sum(abs(centre) > OFF_CENTRE for _, centre in shapes):
            yield f"{off} budgets are off-centre: the best size is not in the middle of those that were run"
        if (bias := self._bias(points)) is not None:
            yield f"on exact losses of the law of these runs, these sizes give a wrong by {bias:+.3f}"

    def _best_of(self, runs: Points) -> Best | None:
        x = np.log(runs.parameters)
        order = np.argsort(x)
        x, loss, tokens = x[order], runs.loss[order], np.log(runs.tokens[order])
        if self.curve == "parabola":
            middle = x.mean()
            parabola = np.polyfit(x - middle, loss, 2)
            bend, slope, _ = parabola
            best = middle - slope / (2 * bend) if bend > 0 else x[0]
            lowest = float(np.polyval(parabola, best - middle))
        else:
            fine = np.linspace(x[0], x[-1], FINE)
            values = Akima1DInterpolator(*_means(x, loss))(fine)
            best, lowest = float(fine[np.argmin(values)]), float(np.min(values))
        if not x[0] < best < x[-1]:
            return None
        return Best(_budget(runs), float(np.exp(best)), float(np.exp(np.interp(best, x, tokens))), lowest)

    def _bias(self, points: Points) -> float | None:
        """The error of a on losses that follow Chinchilla's law exactly."""
        law = CHINCHILLA.constants(theta := fit_projection(points).theta)
        exact = Points.of(
            points.parameters, points.tokens, predict(CHINCHILLA, theta, points), flops=points.flops
        )
        found = list(self.best(exact))
        if len(found) < LEAST_BUDGETS or min(law["alpha"], law["beta"]) < 0.01:
            return None
        return power_laws(found)[0]["a"] - law["beta"] / (law["alpha"] + law["beta"])


class Envelope(Frontier):
    """At each of many budgets the size whose training curve is lowest; runs are points along the curves."""

    def units(self, points: Points) -> NDArray[np.intp]:
        """Whole curves of a size, whose points are not independent."""
        return points.level_of("parameters")

    def best(self, points: Points) -> Iterator[Best]:
        """The lowest curve at `BUDGETS` budgets, where at least two sizes have one.

        Of a size count the points with a lower loss than all with fewer FLOPs: several runs of one size, with
        schedules for different numbers of tokens, make one curve that only falls.
        """
        falling = [_falling(runs) for runs in points.by("parameters")]
        curves = [runs for runs in falling if len(runs.levels("flops")) > 1]
        if len(curves) < 2:
            return
        low = np.sort([np.log(runs.flops[0]) for runs in curves])[1]
        high = np.sort([np.log(runs.flops[-1]) for runs in curves])[-2]
        for budget in np.linspace(low, high, BUDGETS) if high > low else ():
            there = [runs for runs in curves if np.log(runs.flops[0]) <= budget <= np.log(runs.flops[-1])]
            if len(there) < 2:
                continue
            losses = [float(np.interp(budget, np.log(runs.flops), runs.loss)) for runs in there]
            runs = there[int(np.argmin(losses))]
            tokens = float(np.exp(np.interp(budget, np.log(runs.flops), np.log(runs.tokens))))
            yield Best(float(np.exp(budget)), float(runs.parameters.mean()), tokens, min(losses))

    def check(self, points: Points, *, resampled: bool = False) -> None:
        """Raises `CamelidError` if fewer than three sizes are the best at some budget."""
        sizes = len({best.parameters for best in self.best(points)})
        if sizes < LEAST_BUDGETS:
            raise CamelidError(
                f"the envelope has {sizes} sizes, and {LEAST_BUDGETS} are needed; give training curves: rows "
                "with the losses of each size after several numbers of tokens, over overlapping FLOPs"
            )

    def warnings(self, points: Points) -> Iterator[str]:
        """The envelope steps from size to size: few sizes give a coarse exponent."""
        sizes = len({best.parameters for best in self.best(points)})
        if sizes < 6:
            yield f"the envelope rests on {sizes} sizes, so the exponents are coarse"


def _drawn(units: NDArray[np.intp]) -> int:
    """How many of the units a resample has: `SHARE`, and at least one less than all."""
    count = int(units.max()) + 1
    return max(1, min(count - 1, round(SHARE * count)))


def power_laws(found: list[Best]) -> tuple[dict[str, float], float]:
    """a, g of N = g C^a and b, h of D = h C^b by least squares in logarithms, and the squares left."""
    flops, sizes, tokens, _ = np.log(np.array(found)).T
    (a, g), (b, h) = np.polyfit(flops, sizes, 1), np.polyfit(flops, tokens, 1)
    left = ((sizes - a * flops - g) ** 2).sum() + ((tokens - b * flops - h) ** 2).sum()
    return {"a": float(a), "g": float(np.exp(g)), "b": float(b), "h": float(np.exp(h))}, float(left)


def _budget(runs: Points) -> float:
    return float(np.exp(np.log(runs.flops).mean()))


def _shape(runs: Points, best: Best) -> tuple[float, float]:
    """How far the sizes reach from the best in ln N, and how far it is from their middle, in half-widths."""
    low, high = np.log(runs.parameters.min()), np.log(runs.parameters.max())
    where = np.log(best.parameters)
    return float(max(high - where, where - low)), float((2 * where - low - high) / (high - low))


def _means(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The mean of y at each different x."""
    values, index = np.unique(x, return_inverse=True)
    return values, np.bincount(index, y) / np.bincount(index)


def _falling(runs: Points) -> Points:
    """By FLOPs, the points with a lower loss than all before."""
    runs = runs.take(np.lexsort((runs.loss, runs.flops)))
    lowest = np.minimum.accumulate(np.concatenate([[np.inf], runs.loss[:-1]]))
    return runs.take(runs.loss < lowest)
