"""Reads back the fit of `camelid scale fit --out` or of a sweep; and the published law to plan with."""

from pathlib import Path

import numpy as np

from camelid.base.errors import WrongCall
from camelid.base.json import read_table
from camelid.scaling.fitting import Fit
from camelid.scaling.forms import FORMS
from camelid.scaling.points import Points

FIT, FITTED = "fit.json", "fit"
"""The file of a fit, and the folder with the fit in that of a sweep."""
REFITTED = {"E": 1.8172, "A": 482.01, "alpha": 0.3478, "B": 2085.43, "beta": 0.3658}
"""Chinchilla's law as Besiroglu et al. 2024 (arXiv:2404.10102) refitted it."""
PLANNED = ("chinchilla", "projection")
"""The forms that say how size and tokens trade off."""


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
        warnings=tuple(table["warnings"]),
    )
