"""Fits a form to runs, with bootstrap intervals, held-out runs and goodness of fit."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from camelid.base.errors import CamelidError, WrongCall
from camelid.report.values import Estimate
from camelid.scaling.forms import FORMS, Constants, Form, frontier
from camelid.scaling.points import Floats, Points

LEVEL = 0.9
"""Probability of the intervals: the 5th and 95th percentile."""
FAR = 10.0
"""Robust standard deviations from the law beyond which a run is pointed out."""
LEAST_RESAMPLES = 20
"""From which 5th and 95th percentiles are read."""


@dataclass(frozen=True)
class HeldOut:
    """A run that was not fitted, with its predicted loss."""

    name: str
    parameters: float
    tokens: float
    flops: float
    loss: float
    predicted: Estimate

    @property
    def hit(self) -> bool:
        """Whether the loss lies in the interval."""
        return self.predicted.low <= self.loss <= self.predicted.high


@dataclass(frozen=True)
class Fit:
    """A fitted form: constants with their bootstrap resamples, and how well it describes the runs.

    errors: ln of the predicted loss over the measured one, of each run fitted; empty for forms that predict
    no loss, as goodness is. beyond: the same of the quarter with the most FLOPs, predicted by the others.
    """

    form: str
    constants: dict[str, float]
    objective: float
    points: Points
    dropped: Points
    resamples: tuple[dict[str, float], ...] = ()
    errors: Floats = field(default_factory=lambda: np.zeros(0))
    beyond: Floats = field(default_factory=lambda: np.zeros(0))
    held_out: tuple[HeldOut, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The interval of each constant over the resamples; empty without resamples."""
        if not self.resamples:
            return {}
        return {name: _between([each[name] for each in self.resamples]) for name in self.constants}

    @property
    def goodness(self) -> dict[str, float]:
        """R^2 of ln L, and root mean square and largest relative error."""
        if not len(self.errors):
            return {}
        spread = np.log(self.points.loss) - np.log(self.points.loss).mean()
        return {
            "r2": float(1 - (self.errors**2).sum() / (spread**2).sum()),
            "rms_error": float(np.sqrt((self.errors**2).mean())),
            "largest_error": float(np.abs(self.errors).max()),
        }

    def as_json(self) -> dict[str, Any]:
        """The object that `camelid scale fit --json` prints."""
        held = [
            {
                "name": each.name,
                "parameters": each.parameters,
                "tokens": each.tokens,
                "flops": each.flops,
                "loss": each.loss,
                "predicted": each.predicted.value,
                "interval": [each.predicted.low, each.predicted.high],
                "hit": each.hit,
            }
            for each in self.held_out
        ]
        chinchilla = {"E", "A", "B", "alpha", "beta"} <= self.constants.keys()
        return {
            "form": self.form,
            "formula": FORMS[self.form].formula,
            "constants": self.constants,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "level": LEVEL,
            "points": len(self.points),
            "dropped": len(self.dropped),
            "objective": self.objective,
            "minimised": FORMS[self.form].objective,
            "goodness": self.goodness,
            "held_out": held,
            "frontier": frontier(self.constants) if chinchilla else {},
            "warnings": list(self.warnings),
        }


def fit_points(
    form: str,
    points: Points,
    *,
    drop_highest: int = 0,
    hold_out: int = 0,
    resamples: int = 200,
    seed: int = 0,
) -> Fit:
    """Fits a form to runs.

    drop_highest: runs with the highest losses to leave out; hold_out: runs with the most FLOPs to predict
    instead of fitting; resamples: of the bootstrap over runs, 0: none. Raises `CamelidError` if the runs
    cannot determine the constants.
    """
    used, dropped, held = _parts(points, drop_highest, hold_out)
    chosen = FORMS[form]
    chosen.check(used)
    constants, objective = chosen.fit(used)
    again = tuple(_bootstrap(chosen, used, constants, resamples, seed))
    if resamples and len(again) < resamples / 2:
        raise CamelidError(
            f"only {len(again)} of {resamples} resamples of the runs determine the law: it rests on too few "
            "runs; add some, or fit a law with fewer constants (--form)"
        )
    predicted = chosen.loss(constants, used)
    errors = np.zeros(0) if predicted is None else np.log(predicted / used.loss)
    warnings = (*chosen.warnings(used), *_warnings(errors, used))
    if len(again) < resamples:
        warnings += (
            f"{resamples - len(again)} of {resamples} resamples of the runs do not determine the law; the "
            f"intervals rest on the other {len(again)}",
        )
    beyond = _beyond(chosen, used, constants) if len(errors) else errors
    fit = Fit(form, constants, objective, used, dropped, again, errors, beyond, (), warnings)
    undetermined = [
        f"{name} is hardly determined: between {low:.3g} and {high:.3g}"
        for name, (low, high) in fit.intervals.items()
        if name in ("alpha", "beta", "gamma", "a") and high > 2 * low
    ]
    estimates = predict_losses(fit, held, seed) if len(held) else []
    numbers = np.stack([held.parameters, held.tokens, held.flops, held.loss], axis=1).tolist()
    held_out = tuple(
        HeldOut(name, n, d, c, loss, guess)
        for name, (n, d, c, loss), guess in zip(held.names, numbers, estimates, strict=True)
    )
    return Fit(**{**vars(fit), "held_out": held_out, "warnings": (*fit.warnings, *undetermined)})


def predict_losses(fit: Fit, points: Points, seed: int = 0) -> list[Estimate]:
    """The predicted loss of runs with a 90 % interval: of the resampled constants, and of an error.

    Each resample of the constants predicts, times one error. Errors are drawn from those of the runs fitted,
    enlarged by the degrees of freedom that the constants took, or, if these are larger, from those of the
    largest runs as the others predict them, with either sign: a law is an approximation, which is worse
    beyond the runs than among them, and one or two runs do not tell to which side. Raises `WrongCall` for a
    form that predicts no loss.
    """
    form = FORMS[fit.form]
    value = form.loss(fit.constants, points)
    if value is None:
        raise WrongCall(f"--form {fit.form} gives the best sizes, not losses, so nothing can be held out")
    if not fit.resamples:
        raise WrongCall(
            f"an interval of a prediction needs resamples; give --resamples {LEAST_RESAMPLES} or more"
        )
    free = max(1, len(fit.errors) - len(fit.constants))
    among = fit.errors * np.sqrt(len(fit.errors) / free)
    worse = len(fit.beyond) > 0 and (fit.beyond**2).mean() > (among**2).mean()
    generator, shape = np.random.default_rng(seed), (len(fit.resamples), 20)
    draws = generator.choice(np.abs(fit.beyond) if worse else among, shape)
    if worse:
        draws *= generator.choice([-1.0, 1.0], shape)
    noise = np.exp(-draws)
    losses = [form.loss(each, points) for each in fit.resamples]
    spread = np.stack([loss for loss in losses if loss is not None])[:, None, :] * noise[:, :, None]
    ends = (_between(spread[:, :, k].ravel()) for k in range(len(points)))
    return [
        Estimate(middle, min(low, middle), max(high, middle))  # resampled laws may all lie to one side
        for middle, (low, high) in zip(value.tolist(), ends, strict=True)
    ]


def _parts(points: Points, drop_highest: int, hold_out: int) -> tuple[Points, Points, Points]:
    """The runs to fit, those dropped, and those held out."""
    if drop_highest + hold_out >= len(points):
        raise WrongCall(
            f"there are {len(points)} runs; --drop-highest {drop_highest} and --hold-out {hold_out} leave "
            "none to fit"
        )
    order = np.argsort(points.loss, kind="stable")
    keep, dropped = order[: len(points) - drop_highest], order[len(points) - drop_highest :]
    by_flops = keep[np.argsort(points.flops[keep], kind="stable")]
    fitted, held = by_flops[: len(keep) - hold_out], by_flops[len(keep) - hold_out :]
    return points.take(np.sort(fitted)), points.take(dropped), points.take(held)


def _beyond(form: Form, points: Points, constants: Constants) -> Floats:
    """The errors of the quarter of the runs with the most FLOPs by the law of the others, if that is one."""
    order = np.argsort(points.flops, kind="stable")
    below, above = np.split(order, [len(order) - len(order) // 4])
    try:
        form.check(points.take(below))
        law, _ = form.fit(points.take(below), constants)
    except CamelidError:
        return np.zeros(0)
    predicted = form.loss(law, points.take(above))
    return np.zeros(0) if predicted is None else np.log(predicted / points.loss[above])


def _bootstrap(
    form: Form, points: Points, constants: Constants, resamples: int, seed: int
) -> Iterator[dict[str, float]]:
    """The constants of resamples of the runs, those that determine the law."""
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = form.draw(points, generator)
        try:
            form.check(drawn, resampled=True)
            yield form.widen(form.fit(drawn, constants)[0], constants, points)
        except CamelidError:
            continue


def _warnings(errors: Floats, points: Points) -> Iterator[str]:
    """Points out runs far from the law: usually diverged, or stopped early."""
    if not len(errors):
        return
    scale = 1.4826 * float(np.median(np.abs(errors - np.median(errors))))
    far = np.flatnonzero(np.abs(errors) > FAR * max(scale, 1e-6))
    if len(far):
        named = ", ".join(points.names[row] for row in far[np.argsort(-np.abs(errors[far]))][:5])
        lie = "run lies" if len(far) == 1 else "runs lie"
        yield (
            f"{len(far)} {lie} more than {FAR:g} robust standard deviations from the law ({named}); "
            "--drop-highest N leaves out the N highest losses"
        )


def _between(values: Floats | list[float]) -> tuple[float, float]:
    low, high = np.quantile(np.asarray(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
