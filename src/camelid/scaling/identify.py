"""Whether runs can determine the constants of a law; what cannot is refused with the reason."""

import numpy as np

from camelid.base.errors import CamelidError
from camelid.scaling.points import Points, Variable

LEVELS = 3
"""Different values of each variable that a law needs."""
LEAST_SPREAD = 0.1
"""Standard deviation of ln D around its line in ln N below which all runs have one ratio or one budget."""
WORDS: dict[Variable, str] = {"parameters": "sizes", "tokens": "numbers of tokens", "flops": "budgets"}


def check_different(points: Points, variables: tuple[Variable, ...], constants: int) -> None:
    """Raises `CamelidError` unless there are more different runs than constants: other seeds add none.

    A resample of the runs has fewer different ones, and its fit starts from that of all runs, so it is not
    held to this: that would refuse nearly every resample of a ladder of seven.
    """
    different = len(np.unique([points.level_of(variable) for variable in variables], axis=1).T)
    if different <= constants < len(points):
        what = " and ".join(WORDS[variable] for variable in variables)
        raise CamelidError(
            f"{len(points)} runs of {different} different {what} cannot determine {constants} constants; "
            f"give at least {constants + 1} different ones, or fit a law with fewer constants (--form)"
        )


def check_identifiable(points: Points, variables: tuple[Variable, ...], constants: int) -> None:
    """Raises `CamelidError` unless there are more runs than constants, `LEVELS` values of each variable, and
    with two variables runs off any one line."""
    if len(points) <= constants:
        raise CamelidError(
            f"{len(points)} runs cannot determine {constants} constants; give at least {constants + 1}, or "
            "fit a law with fewer constants (--form)"
        )
    for variable in variables:
        levels = points.levels(variable)
        if len(levels) < LEVELS:
            found = " and ".join(f"{level:.3g}" for level in levels)
            raise CamelidError(
                f"the runs have {len(levels)} different {WORDS[variable]} ({found}); the law needs at least "
                f"{LEVELS}. Add runs, or fit a law without this variable (--form)"
            )
    if len(variables) == 2:
        x, y = (np.log(points.column(variable)) for variable in variables)
        slope, height = np.polyfit(x, y, 1)
        spread = float(np.std(y - slope * x - height))
        if spread < LEAST_SPREAD:
            what = "the same tokens per parameter" if abs(slope - 1) < 0.05 else f"D = const x N^{slope:.2f}"
            raise CamelidError(
                f"all runs have {what}, so the effects of size and of tokens cannot be told apart; add runs "
                "with other numbers of tokens, or fit --form saturating-c"
            )


def check_falls(constants: dict[str, float]) -> None:
    """Raises `CamelidError` if an exponent is not positive, or a term of size or tokens is not there."""
    for name in ("alpha", "beta", "gamma"):
        if name in constants and not constants[name] > 1e-3:
            raise CamelidError(
                f"the fitted {name} is {constants[name]:.3g}: over these runs the loss does not fall as the "
                "law says; check them for diverged runs and for rows of different data sets"
            )
    for name, what in (("A", "size"), ("B", "tokens")):
        if name in constants and not constants[name] > 1e-300:
            raise CamelidError(
                f"the fitted {name} is 0: over these runs the loss does not fall with {what}; check them for "
                "diverged runs and for rows of different data sets"
            )
