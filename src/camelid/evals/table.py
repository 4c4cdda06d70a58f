"""Results as a table: drawn on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Sequence
from typing import TextIO

from camelid.evals.evaluate import Result

COLUMNS = ("task", "version", "program", "n-shot", "metric", "value", "±", "n")


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The cells of each result, as text, in the order of `COLUMNS`."""
    return [
        (
            result.task,
            result.version,
            result.program,
            str(result.shots),
            result.metric,
            f"{result.value:.4f}",
            f"{result.interval.half_width:.4f}",
            str(result.questions),
        )
        for result in results
    ]


def plain_table(results: Sequence[Result]) -> str:
    """The table as lines of cells between bars, which Markdown reads as well."""
    cells = [COLUMNS, *rows(results)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def print_table(results: Sequence[Result], file: TextIO | None = None) -> None:
    """Prints the table: with rich on a terminal, plain otherwise."""
    file = file or sys.stdout
    if not file.isatty():
        print(plain_table(results), file=file)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in ("n-shot", "value", "±", "n") else "left")
    for row in rows(results):
        table.add_row(*row)
    Console(file=file).print(table)
