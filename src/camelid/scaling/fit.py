"""`camelid scale fit`: reads runs, fits a law, prints it and writes its report."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from camelid.base.atomic import atomic_folder, refuse_used
from camelid.base.digest import digest_path
from camelid.base.errors import WrongCall
from camelid.base.json import write_json
from camelid.report.page import write_report
from camelid.scaling.fit_page import fit_report
from camelid.scaling.fitting import LEAST_RESAMPLES, LEVEL, Fit, fit_points
from camelid.scaling.forms import FORMS
from camelid.scaling.reading import read_runs
from camelid.scaling.saved import FIT

logger = logging.getLogger(__name__)


def scale_fit(
    runs: Sequence[Path],
    *,
    form: str = "chinchilla",
    columns: str | None = None,
    drop_highest: int = 0,
    hold_out: int = 0,
    resamples: int = 200,
    seed: int = 0,
    out: Path | None = None,
    as_json: bool = False,
) -> Fit:
    """Fits a law to runs and prints it; with `out`, writes fit.json and report.html into that new folder.

    See `fit_points` for the numbers and `read_runs` for `columns`.
    """
    for name, number in (("drop-highest", drop_highest), ("hold-out", hold_out), ("resamples", resamples)):
        if number < 0:
            raise WrongCall(f"--{name} is {number}; it must be at least 0")
    if 0 < resamples < LEAST_RESAMPLES:
        raise WrongCall(f"--resamples is {resamples}; an interval needs {LEAST_RESAMPLES}, and 0 gives none")
    if out is not None:
        refuse_used(out)
    points, notes, differences = read_runs(runs, columns)
    for note in notes:
        logger.info(note)
    fit = fit_points(
        form, points, drop_highest=drop_highest, hold_out=hold_out, resamples=resamples, seed=seed
    )
    fit = replace(fit, warnings=(*differences, *fit.warnings))
    for warning in fit.warnings:
        logger.warning(warning)
    print(json.dumps(fit.as_json())) if as_json else _print(fit)
    if out is not None:
        save_fit(fit, {str(path): digest_path(path) for path in runs}, out)
    return fit


def save_fit(fit: Fit, sources: Mapping[str, str], out: Path) -> None:
    """Writes fit.json and report.html into a new folder."""
    points = {name: list(fit.points.column(name)) for name in ("parameters", "tokens", "flops")}
    kept = {
        **fit.as_json(),
        "beyond": list(fit.beyond),
        "resamples": [list(each.values()) for each in fit.resamples],
        "runs": {**points, "loss": list(fit.points.loss), "names": list(fit.points.names)},
        "sources": dict(sources),
    }
    with atomic_folder(out) as draft:
        write_json(draft / FIT, kept)
        write_report(fit_report(fit, sources), draft / "report.html")


def _print(fit: Fit) -> None:
    console = Console(highlight=False)
    console.print(f"{FORMS[fit.form].formula}   ({len(fit.points)} runs, {len(fit.dropped)} dropped)")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("constant", "value", f"{LEVEL:.0%} interval"):
        table.add_column(column, justify="left" if column == "constant" else "right")
    for name, value in fit.constants.items():
        ends = fit.intervals.get(name)
        table.add_row(name, f"{value:.5g}", "" if ends is None else f"{ends[0]:.5g} to {ends[1]:.5g}")
    console.print(table)
    if fit.goodness:
        good = fit.goodness
        console.print(
            f"R² {good['r2']:.4f}, error {good['rms_error']:.2%} (root mean square), "
            f"{good['largest_error']:.2%} at most"
        )
    for each in fit.held_out:
        guess = each.predicted
        print(
            f"held out {each.name}: loss {each.loss:.4f}, predicted {guess.value:.4f} "
            f"({guess.low:.4f} to {guess.high:.4f}): {'hit' if each.hit else 'miss'}"
        )
