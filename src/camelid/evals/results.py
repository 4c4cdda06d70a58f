"""Results: the rows of a table, printed with rich on a terminal and plain elsewhere, and written as JSON."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from camelid.base.errors import CamelidError
from camelid.base.json import NotJSONError, read_json, write_json
from camelid.tasks.intervals import Interval

COLUMNS = ("task", "version", "program", "n-shot", "metric", "value", "±", "n", "unparsed", "cut", "tied")
NUMBERS = ("n-shot", "value", "±", "n", "unparsed", "cut", "tied")


@dataclass(frozen=True)
class Result:
    """One row: a metric's value and its 95 % interval over `n` questions (for a text, tokens)."""

    task: str
    version: str
    program: str
    shots: int
    metric: str
    value: float
    interval: Interval | None
    n: int
    model: str
    evaluation: str
    """Digest of everything that the value depends on."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the program: wording with its separator, exemplars or how they were drawn, sampling."""
    unparsed: float | None = None
    """Share of replies in which no answer was found; they count as wrong. None where nothing is read."""
    cut: float | None = None
    """Share of replies that were cut at the length limit; None where nothing is generated."""
    tied: float | None = None
    """Share of questions whose most probable choices are exactly equal; they count as wrong. None where no
    choices are compared."""
    title: str = ""
    """The program's name for people, which tables show; `program` is the key of records."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of `COLUMNS`."""
        half = "" if self.interval is None else f"{self.interval.half_width:.4f}"
        value = f"{self.value:.4f}"
        named = (self.task, self.version, self.title or self.program, str(self.shots), self.metric)
        return (*named, value, half, str(self.n), *map(_share, (self.unparsed, self.cut, self.tied)))

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON values, with the interval's ends and half-width."""
        row = asdict(self)
        interval = row.pop("interval") or {"low": None, "high": None}
        return {**row, **interval, "plus_minus": self.interval and self.interval.half_width}


def _share(value: float | None) -> str:
    """A share as per cent; empty where it means nothing."""
    return "" if value is None else f"{100 * value:.1f}%"


def plain_table(results: Sequence[Result]) -> str:
    """The table as text, in Markdown's form."""
    cells = [COLUMNS, *(result.cells for result in results)]
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
        table.add_column(column, justify="right" if column in NUMBERS else "left")
    for result in results:
        table.add_row(*result.cells)
    Console(file=file).print(table)


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Writes results to one JSON file, atomically; results of other evaluations in it are kept.

    Raises `CamelidError` if the file holds something else.
    """
    try:
        earlier = read_json(path)["results"] if path.exists() else []
    except (NotJSONError, KeyError, TypeError) as error:
        raise CamelidError(f"{path}: not a file of results; choose another --out folder") from error
    new = {result.evaluation for result in results}
    kept = [row for row in earlier if row["evaluation"] not in new]
    rows = [*kept, *(result.as_dict() for result in results)]
    path.parent.resolve().mkdir(parents=True, exist_ok=True)
    write_json(path, {"results": rows}, measured=True)
