"""`camelid scale fit`."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def scale_fit(
    runs: Annotated[tuple[Path, ...], Positional],
    form: Literal[
        "chinchilla",
        "projection",
        "kaplan",
        "kaplan-n",
        "kaplan-d",
        "kaplan-c",
        "saturating-n",
        "saturating-d",
        "saturating-c",
        "isoflop",
        "akima",
        "envelope",
    ] = "chinchilla",
    columns: str | None = None,
    drop_highest: int = 0,
    hold_out: int = 0,
    resamples: int = 200,
    seed: int = 0,
    out: Path | None = None,
    as_json: Annotated[bool, arg(name="json")] = False,
) -> None:
    """Fits a scaling law to training runs: how the loss follows parameters, tokens and FLOPs.

    Args:
        runs: a table (CSV, JSON lines) with a row for each run, or run folders of `camelid pretrain`
        form: chinchilla: L = E + A/N^alpha + B/D^beta by Huber loss; projection: the same by variable
            projection; kaplan: L(N, D); kaplan-n, -d, -c: a power law of one variable; saturating-n, -d,
            -c: one with a floor; isoflop, akima: the best size of each budget, by a parabola or a spline;
            envelope: the same from training curves
        columns: names of the columns for parameters, tokens, FLOPs and loss, in this order, between commas,
            empty where there is none; tokens or FLOPs may be missing
        drop_highest: number of runs with the highest losses to leave out
        hold_out: number of runs with the most FLOPs to predict instead of fitting
        resamples: bootstrap resamples of the runs, for the intervals; 0: none
        seed: seed of the resamples
        out: new folder for fit.json and report.html
        as_json: print one JSON object instead of a table
    """
    from camelid.scaling.fit import scale_fit as fit_and_print

    fit_and_print(
        runs,
        form=form,
        columns=columns,
        drop_highest=drop_highest,
        hold_out=hold_out,
        resamples=resamples,
        seed=seed,
        out=out,
        as_json=as_json,
    )
