"""The report of `camelid scale fit`."""

from collections.abc import Mapping

import numpy as np

from camelid.base.version import __version__
from camelid.report.values import Curve, Estimate, LinePlot, Report, Section, Table
from camelid.scaling.fitting import LEVEL, Fit
from camelid.scaling.forms import FORMS, frontier
from camelid.scaling.frontier import Frontier
from camelid.scaling.points import Points

SHOWN_SIZES = 6
"""Curves in a plot."""


def fit_report(fit: Fit, sources: Mapping[str, str]) -> Report:
    """Constants with intervals, losses beside the law, held-out runs; sources: digest of each path."""
    goodness = {name.replace("_", " "): f"{value:.4f}" for name, value in fit.goodness.items()}
    return Report(
        title=f"camelid scale fit: {fit.form}",
        summary=f"{FORMS[fit.form].formula}, fitted to {len(fit.points)} runs; {len(fit.dropped)} dropped, "
        f"{len(fit.held_out)} held out.",
        facts={**{name: f"{value:.4g}" for name, value in fit.constants.items()}, **goodness},
        sections=(
            Section("Constants", " ".join(fit.warnings), tables=(_constants(fit),)),
            *_losses(fit),
            *_held_out(fit),
            *_frontier(fit),
            *_best_sizes(fit),
            Section("Data", tables=(Table("", ("file", "sha256"), tuple(sources.items())),), folded=True),
        ),
        footer=f"Written by camelid {__version__}.",
    )


def _constants(fit: Fit) -> Table:
    rows = tuple(
        (name, f"{value:.5g}", *(f"{end:.5g}" for end in fit.intervals.get(name, ())))
        for name, value in fit.constants.items()
    )
    columns = ("constant", "value", "low", "high")[: len(rows[0])]
    caption = f"{LEVEL:.0%} intervals over {len(fit.resamples)} resamples of the runs."
    return Table("", columns, rows, caption if fit.resamples else "")


def _losses(fit: Fit) -> tuple[Section, ...]:
    """The runs of some sizes over their tokens, and what the law says."""
    if not len(fit.errors):
        return ()
    sizes = fit.points.by("parameters")
    shown = [sizes[k] for k in np.unique(np.linspace(0, len(sizes) - 1, SHOWN_SIZES).round().astype(int))]
    curves = []
    for runs in shown:
        runs = runs.take(np.argsort(runs.tokens))
        law = FORMS[fit.form].loss(fit.constants, runs)
        assert law is not None
        label = f"{runs.parameters.mean():.3g}"
        curves += [_curve(f"{label} runs", runs), _curve(f"{label} law", runs, list(law))]
    errors = Curve("runs", list(np.log10(fit.points.flops)), list(100 * fit.errors))
    return (
        Section(
            "Runs and law",
            figures=(
                LinePlot(
                    "Loss by size",
                    "log10 tokens",
                    "nats per token",
                    tuple(curves),
                    caption="Sizes: parameters.",
                ),
                LinePlot("Error of the law", "log10 FLOPs", "percent", (errors,)),
            ),
        ),
    )


def _curve(name: str, runs: Points, values: list[float] | None = None) -> Curve:
    return Curve(name, list(np.log10(runs.tokens)), list(runs.loss) if values is None else values)


def _best_sizes(fit: Fit) -> tuple[Section, ...]:
    """The best size of each budget, and the power law through them."""
    form = FORMS[fit.form]
    if not isinstance(form, Frontier):
        return ()
    found = list(form.best(fit.points))
    flops = [float(np.log10(best.flops)) for best in found]
    law = [float(np.log10(fit.constants["g"]) + fit.constants["a"] * x) for x in flops]
    curves = (
        Curve("best", flops, [float(np.log10(best.parameters)) for best in found]),
        Curve("power law", flops, law),
    )
    return (
        Section("Best size", figures=(LinePlot("By budget", "log10 FLOPs", "log10 parameters", curves),)),
    )


def _held_out(fit: Fit) -> tuple[Section, ...]:
    if not fit.held_out:
        return ()
    rows = tuple(
        (
            each.name,
            f"{each.parameters:.3g}",
            f"{each.tokens:.3g}",
            each.loss,
            Estimate(each.predicted.value, each.predicted.low, each.predicted.high),
            "hit" if each.hit else "miss",
        )
        for each in fit.held_out
    )
    columns = ("run", "parameters", "tokens", "loss", "predicted", f"inside {LEVEL:.0%}")
    return (Section("Held-out runs", tables=(Table("", columns, rows),)),)


def _frontier(fit: Fit) -> tuple[Section, ...]:
    """The best size and tokens of some budgets, by Chinchilla's law."""
    if not {"A", "B", "alpha", "beta"} <= fit.constants.keys():
        return ()
    best = frontier(fit.constants)
    powers = np.arange(np.floor(np.log10(fit.points.flops.min())), np.log10(fit.points.flops.max()) + 2)
    sizes = {power: best["G"] * (10.0**power / 6) ** best["a"] for power in powers}
    rows = tuple(
        (f"1e{power:.0f}", f"{n:.3g}", f"{10**power / 6 / n:.3g}", f"{10**power / 6 / n**2:.3g}")
        for power, n in sizes.items()
    )
    columns = ("FLOPs", "parameters", "tokens", "tokens per parameter")
    text = f"N = {best['G']:.4g} (C / 6)^{best['a']:.3f}, D = (C / 6)^{best['b']:.3f} / {best['G']:.4g}."
    return (Section("Compute-optimal", text, tables=(Table("", columns, rows),)),)
