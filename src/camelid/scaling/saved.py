"""Reads back the fit of `camelid scale fit --out` or of a sweep, to plan and to predict a run with."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from camelid.base.digest import digest_file
from camelid.base.errors import WrongCall
from camelid.base.json import read_table
from camelid.runs.prediction import Prediction
from camelid.scaling.fitting import LEVEL, Fit, predict_losses
from camelid.scaling.forms import FORMS
from camelid.scaling.plan import Loss
from camelid.scaling.points import Points

logger = logging.getLogger(__name__)

FIT, FITTED = "fit.json", "fit"
"""The file of a fit, and the folder with the fit in that of a sweep."""
REFITTED = {"E": 1.8172, "A": 482.01, "alpha": 0.3478, "B": 2085.43, "beta": 0.3658}
"""Chinchilla's law as Besiroglu et al. 2024 (arXiv:2404.10102) refitted it."""
PLANNED = ("chinchilla", "projection")
"""The forms that say how size and tokens trade off."""
FAR = 10.0
"""FLOPs beyond the largest fitted run, as a multiple, from which a prediction is called far."""


def fit_file(path: Path) -> Path:
    """The fit.json at `path`, in that folder, or in that folder of a sweep."""
    for found in (path, path / FIT, path / FITTED / FIT):
        if found.is_file():
            return found
    raise WrongCall(f"{path}: no {FIT} there; give the folder of `camelid scale fit --out` or of a sweep")


def load_fit(path: Path) -> Fit:
    """The fit in a folder; raises `WrongCall` unless it is a law to plan with."""
    file = fit_file(path)
    table = read_table(file, remedy="fit it again with `camelid scale fit`")
    if table.get("form") not in PLANNED or "runs" not in table:
        raise WrongCall(f"{file} holds no law to plan with; fit --form {' or '.join(PLANNED)}")
    constants, runs = table["constants"], table["runs"]
    points = Points.of(
        runs["parameters"], runs["tokens"], runs["loss"], flops=runs["flops"], names=runs["names"]
    )
    predicted = FORMS[table["form"]].loss(constants, points)
    assert predicted is not None  # both forms predict losses
    return Fit(
        form=table["form"],
        constants=constants,
        objective=table["objective"],
        points=points,
        dropped=points.take(points.loss < 0),
        resamples=tuple(dict(zip(constants, values, strict=True)) for values in table["resamples"]),
        errors=np.log(predicted / points.loss),
        beyond=np.array(table.get("beyond", ())),
        warnings=tuple(table["warnings"]),
    )


def loss_by(constants: Mapping[str, float]) -> Loss:
    """Chinchilla's law with these constants, as a function of N and D."""

    def loss(parameters: float, tokens: float) -> float:
        predicted = FORMS["chinchilla"].loss(constants, Points.of([parameters], [tokens], [1.0]))
        assert predicted is not None  # Chinchilla's law predicts losses
        return float(predicted[0])

    return loss


def predict_run(
    law: Path, parameters: float, tokens: float, flops: float, *, worth: float | None = None, seed: int = 0
) -> Prediction:
    """The loss of a run by a law of your own, with its interval; warns where it is far from those fitted.

    worth: of its tokens, where some are repeats.
    """
    fit = load_fit(law)
    planned = Points.of([parameters], [worth or tokens], [1.0], flops=[flops])
    [guess] = predict_losses(fit, planned, seed)
    if flops > FAR * (most := float(fit.points.flops.max())):
        logger.warning(
            f"the run has {flops / most:,.0f} times the FLOPs of the largest fitted run: a far extrapolation"
        )
    source = digest_file(fit_file(law))
    return Prediction(guess.value, guess.low, guess.high, LEVEL, parameters, tokens, flops, fit.form, source)
