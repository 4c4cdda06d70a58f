"""The comparison report: quantised versions of one model, or any models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from camelid.report.values import BarPlot, Cell, Curve, Estimate, LinePlot, Report, Section, Table

AS_IT_IS = "as it is"
STEEP = 5
"""The axis is logarithmic if the largest perplexity exceeds the smallest by this factor."""


@dataclass(frozen=True)
class Measured:
    """The results of a model: the original, one quantised by a method at a number of bits, or any other."""

    method: str
    bits: int | None
    group_size: int | None
    """Weights that share a scale, -1 for a whole row."""
    name: str
    """The displayed name; for quantised models also the folder's name, with hyphens for blanks."""
    megabytes: float
    perplexity: float
    bits_per_byte: float
    tokens_per_second: float
    peak_megabytes: float
    accuracy: Estimate | None = None
    """Accuracy on a task, in percent, with its 95 % interval."""
    difference: Estimate | None = None
    """Difference in accuracy from the first model, paired by question, in points."""
    unparsed: float | None = None
    """Replies in which no answer was found, in percent."""
    cut: float | None = None
    """Replies that were cut at the length limit, in percent."""


def comparison_report(
    title: str, rows: Sequence[Measured], caption: str, commands: Sequence[str] = ()
) -> Report:
    """The report; the first row is the baseline; `caption` describes the measurement."""
    figures: list[LinePlot | BarPlot] = [_sizes(rows) if _of_one_source(rows) else _predictions(rows)]
    if rows[0].accuracy is not None:
        shown = {"": tuple(row.accuracy for row in rows)}
        figures.append(
            BarPlot("Accuracy", "% right", tuple(row.name for row in rows), shown, "With 95 % intervals.")
        )
    table = comparison_table(rows, caption)
    section = Section(
        "The methods" if _of_one_source(rows) else "The models", figures=tuple(figures), tables=(table,)
    )
    return Report(title=title, summary=_summary(rows), commands=tuple(commands), sections=(section,))


def comparison_table(rows: Sequence[Measured], caption: str = "") -> Table:
    """A row for each model."""
    graded = rows[0].accuracy is not None
    columns = [
        "method" if _of_one_source(rows) else "model",
        "bits",
        "group",
        "MB",
        "perplexity",
        "bits a byte",
    ]
    columns += ["accuracy, %", "difference", "unparsed, %", "cut, %"] if graded else []
    cells: list[tuple[Cell, ...]] = []
    for row in rows:
        group = "row" if row.group_size == -1 else row.group_size
        accuracy = (row.accuracy, row.difference, row.unparsed, row.cut) if graded else ()
        numbers = (row.megabytes, row.perplexity, row.bits_per_byte, *accuracy)
        cells.append((row.method, row.bits, group, *numbers, row.tokens_per_second, row.peak_megabytes))
    return Table("", (*columns, "tokens/s", "peak MB"), tuple(cells), caption)


def best_of(rows: Sequence[Measured]) -> list[Measured]:
    """The row with the lowest perplexity at each number of bits, in descending order of bits."""
    found = sorted({row.bits for row in rows if row.bits is not None}, reverse=True)
    return [min((row for row in rows if row.bits == bits), key=_order) for bits in found]


def _of_one_source(rows: Sequence[Measured]) -> bool:
    """Whether all other rows were made from the first."""
    return rows[0].name == AS_IT_IS


def _order(row: Measured) -> float:
    return row.perplexity if math.isfinite(row.perplexity) else math.inf


def _summary(rows: Sequence[Measured]) -> str:
    if not _of_one_source(rows):
        lowest = min(
            rows, key=lambda row: row.bits_per_byte if math.isfinite(row.bits_per_byte) else math.inf
        )
        return (
            f"{lowest.name} predicts the text best, at {lowest.bits_per_byte:.4g} bits per byte and "
            f"{lowest.megabytes:.1f} MB. "
            "Perplexities per token are comparable only between models with the same vocabulary."
        )
    source, best = rows[0], best_of(rows)
    least = (
        f"at {row.bits} bits by {row.method} (perplexity {row.perplexity:.4g}, {row.megabytes:.1f} MB)"
        for row in best
    )
    return (
        f"The original model has perplexity {source.perplexity:.4g} at {source.megabytes:.1f} MB. "
        f"The best quantised models: {', '.join(least)}."
    )


def _predictions(rows: Sequence[Measured]) -> BarPlot:
    """Bits per byte of each model; vocabularies may differ."""
    made = [row for row in rows if math.isfinite(row.bits_per_byte)]
    values = tuple(Estimate(row.bits_per_byte, row.bits_per_byte, row.bits_per_byte) for row in made)
    return BarPlot(
        "Prediction", "bits a byte", tuple(row.name for row in made), {"": values}, "Lower is better."
    )


def _sizes(rows: Sequence[Measured]) -> LinePlot:
    source, made = rows[0], [row for row in rows[1:] if math.isfinite(row.perplexity)]
    highest = {
        bits: max(row.perplexity for row in made if row.bits == bits) for bits in {r.bits for r in made}
    }
    named: set[int | None] = set()
    curves = []
    for method in dict.fromkeys(row.method for row in made):
        own = sorted((row for row in made if row.method == method), key=lambda row: row.megabytes)
        labels = []
        for row in own:
            # Methods at the same number of bits have the same size: label it once, above the highest.
            first = row.perplexity == highest[row.bits] and row.bits not in named
            labels.append(f"{row.bits} bits" if first else "")
            named |= {row.bits} if first else set()
        x, y = [row.megabytes for row in own], [row.perplexity for row in own]
        curves.append(Curve(method, x, y, labels=labels))
    every = [row.perplexity for row in (source, *made)]
    return LinePlot(
        "Perplexity against size",
        "MB",
        "perplexity a token",
        tuple(curves),
        caption="Lower is better, and so is further left.",
        levels={f"{AS_IT_IS}, {source.megabytes:,.1f} MB": source.perplexity},
        logarithmic=max(every) > STEEP * min(every),
    )
