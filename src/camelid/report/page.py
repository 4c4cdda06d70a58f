"""A report as one self-contained HTML file, with styles and figures inside."""

import math
import re
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from camelid.base.atomic import write_text_atomically
from camelid.report.values import BarPlot, Cell, Estimate, LinePlot, Report, Table

REPORT = "report.html"


def write_report(report: Report, path: Path) -> Path:
    """Writes the page to `path` (or to `report.html` in it if it is a folder), atomically."""
    target = path / REPORT if path.is_dir() else path
    write_text_atomically(target, render(report))
    return target


def render(report: Report) -> str:
    """The page as HTML."""
    return template("page.html.jinja").render(report=report)


def template(name: str) -> Template:
    """A page's template, with the filters that show values; what it is given is escaped."""
    environment = Environment(
        loader=PackageLoader("camelid.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., object]] = {"draw": _drawn, "cell": show_cell, "aligned": _aligned}
    environment.filters.update(filters)
    return environment.get_template(name)


def show_cell(cell: Cell) -> str:
    """A table's cell as text: estimates with their interval, numbers to four digits."""
    match cell:
        case None:
            return "–"
        case Estimate(value, low, high):
            digits = 1 if abs(high) > 1 else 3
            if high > low:  # two digits of the interval's width
                digits = max(digits, min(4, 1 - math.floor(math.log10(high - low))))
            return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        case str():
            return cell
        case _:
            return _number(cell)


def _number(value: float) -> str:
    """Four significant digits with trailing zeros, so that the numbers of a column line up."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:#.4g}".rstrip(".")


def _aligned(table: Table, column: int) -> str:
    """The CSS class of a column's cells: columns with numbers are right-aligned."""
    cells = [row[column] for row in table.rows]
    numeric = any(isinstance(cell, int | float | Estimate) for cell in cells) or any(
        isinstance(cell, str) and re.fullmatch(r"[\d.,]+(?:\u00a0%)?", cell) for cell in cells
    )
    return ' class="number"' if numeric else ""


def _drawn(plot: LinePlot | BarPlot) -> Markup:
    from camelid.report.figures import draw  # imports matplotlib, which pages without a plot do without

    return Markup(draw(plot))
