"""The report of `camelid scale sweep`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from camelid.report.values import Curve, Estimate, LinePlot, Report, Section, Table
from camelid.runs.prediction import PREDICTION, Prediction
from camelid.runs.run import METRICS, read_metrics
from camelid.scaling.fit_page import fit_report
from camelid.scaling.fitting import Fit
from camelid.scaling.reading import RunPoint, run_point

QUARTER = 0.25
"""The largest error of the held-out prediction that we aim at, as a share of the drop in loss to it."""
LEVELS, SMOOTH = 8, 40
"""Losses at which sizes are compared, and pieces of a curve over which its loss is averaged."""


def sweep_report(
    out: Path, fit: Fit, fitted: Sequence[Path], held_out: Path, check: Mapping[str, Any]
) -> Report:
    """The law, the held-out rung's prediction, sample efficiency by size, and the coordinate check."""
    base = fit_report(fit, {})
    prediction, run = Prediction.read(held_out / PREDICTION), run_point(held_out)
    share = error_share(fit, prediction, run)
    text = (
        f"{prediction.verdict(run.loss)[:1].upper()}{prediction.verdict(run.loss)[1:]}. The error is "
        f"{share:.0%} of the drop in loss from the largest fitted run; the aim is at most {QUARTER:.0%}."
    )
    rows = tuple(
        (width, float(moved)) for width, moved in ((int(key), value) for key, value in check["moved"].items())
    )
    return Report(
        title=f"camelid scale sweep: {out.resolve().name}",
        summary=base.summary,
        facts={**base.facts, "held-out loss": f"{run.loss:.4f}", "predicted": f"{prediction.loss:.4f}"},
        sections=(
            Section("Held-out run", text, tables=(_held_out(prediction, run),)),
            _efficiency([*fitted, held_out]),
            *base.sections[:-1],
            Section(
                "Coordinate check",
                f"How far hidden states move in three small updates at the transferred rate: as width to the "
                f"power {check['slope']:+.2f}, which {'passes' if check['passed'] else 'does not pass'}.",
                tables=(Table("", ("width", "change of a coordinate"), rows),),
            ),
        ),
        footer=base.footer,
    )


def error_share(fit: Fit, prediction: Prediction, run: RunPoint) -> float:
    """The error of the prediction over the drop from the loss of the largest fitted run."""
    largest = fit.points.loss[int(np.argmax(fit.points.flops))]
    return abs(prediction.loss - run.loss) / max(float(largest) - run.loss, 1e-9)


def _held_out(prediction: Prediction, run: RunPoint) -> Table:
    guess = Estimate(prediction.loss, prediction.low, prediction.high)
    row = (Path(run.name).name, int(run.parameters), int(run.tokens), f"{run.flops:.3g}", run.loss, guess)
    return Table("", ("run", "parameters", "tokens", "FLOPs", "loss", "predicted"), (row,))


def _efficiency(folders: Sequence[Path]) -> Section:
    """Tokens that each size needs for the same training loss, from the longest run of each size."""
    longest: dict[float, RunPoint] = {}
    for run in sorted((run_point(folder) for folder in folders), key=lambda each: each.tokens):
        longest[run.parameters] = run
    curves = {size: training_curve(Path(run.name)) for size, run in sorted(longest.items())}
    low = max(min(loss) for _, loss in curves.values())
    high = min(max(loss) for _, loss in curves.values())
    levels = np.linspace(high, low, LEVELS + 2)[1:-1] if high > low else np.zeros(0)
    return Section(
        "Sample efficiency",
        "Training loss over tokens for each size, and the tokens after which each size first has a loss: "
        "larger models need fewer.",
        figures=(
            LinePlot(
                "Loss by tokens",
                "log10 tokens",
                "nats per token",
                tuple(Curve(f"{n:,.0f}", list(np.log10(x)), list(y)) for n, (x, y) in curves.items()),
            ),
            LinePlot(
                "Tokens for the same loss",
                "log10 parameters",
                "tokens",
                tuple(
                    Curve(
                        f"loss {level:.2f}",
                        [float(np.log10(n)) for n in curves],
                        [tokens_until(level, *curve) for curve in curves.values()],
                    )
                    for level in levels[::2]
                ),
                logarithmic=True,
            ),
        ),
    )


def training_curve(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and mean training loss of `SMOOTH` equal pieces of a run, without its first."""
    records = [record for record in read_metrics(folder / METRICS) if "loss" in record]
    tokens, loss = np.cumsum([r["tokens"] for r in records]), np.array([r["loss"] for r in records])
    pieces = np.array_split(np.arange(len(loss)), min(SMOOTH, len(loss)))[1:]
    return np.array([tokens[p].mean() for p in pieces]), np.array([loss[p].mean() for p in pieces])


def tokens_until(level: float, tokens: np.ndarray, loss: np.ndarray) -> float:
    """Tokens after which the loss, made to fall only, is first at most `level`."""
    falling = np.minimum.accumulate(loss)
    return float(np.interp(-level, -falling, tokens))
