"""Plots as inline SVG whose fonts and colours follow the page, in light and dark mode."""

import io
import re
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from camelid.report.values import BarPlot, Curve, LinePlot

WIDTH, HEIGHT = 5.2, 3.1
"""Inches; small, so that text stays readable when the figure is scaled to a phone."""
POINTS = 120
LONG_NAME = 32
"""Characters of a curve's name beyond which the legend stands below the plot."""
INK, FAINT = "#010203", "#010204"
SERIES = ("#020301", "#020302", "#020303", "#020304", "#020305", "#020306")
# Each placeholder colour becomes a CSS variable of the page.
VARIABLES = {INK: "var(--ink)", FAINT: "var(--rule)"} | {
    c: f"var(--series-{i})" for i, c in enumerate(SERIES, 1)
}

STYLE: Any = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "camelid",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


def draw(plot: LinePlot | BarPlot) -> str:
    """The plot as an `<svg>` element."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(layout="constrained")
        axes = figure.add_subplot()
        if isinstance(plot, LinePlot):
            below = _legend_below(plot)
            figure.set_size_inches(WIDTH, HEIGHT + 0.2 * below)
            _lines(axes, plot)
            if below:
                figure.legend(loc="outside lower center")
        else:
            bars = len(plot.groups) * len(plot.series)
            figure.set_size_inches(WIDTH, max(HEIGHT, 0.9 + 0.17 * bars))
            _bars(axes, plot)
        return _svg(figure, plot.title)


def _lines(axes: Axes, plot: LinePlot) -> None:
    for colour, curve in zip(_colours(len(plot.curves)), plot.curves, strict=True):
        if curve.spread and len(curve.x) > POINTS:
            x, low, mean, high = _binned(curve)
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(x, mean, color=colour, linewidth=1.6, label=curve.name)
        else:
            marker, size = ("o" if len(curve.x) <= 30 else None), (5 if curve.labels else 3)
            axes.plot(
                curve.x,
                curve.y,
                color=colour,
                linewidth=1.6,
                marker=marker,
                markersize=size,
                label=curve.name,
            )
        for label, *point in zip(curve.labels, curve.x, curve.y, strict=False):
            axes.annotate(label, (point[0], point[1]), (3, 3), textcoords="offset points", va="bottom")
    for name, level in plot.levels.items():
        axes.axhline(level, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=name)
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    labelled = any(curve.labels for curve in plot.curves)
    axes.margins(x=0.12 if labelled else 0.02, y=0.12 if labelled else None)
    if plot.logarithmic:
        _logarithmic(axes)
    if plot.from_zero:
        axes.set_ylim(bottom=0)
    if len(plot.curves) + len(plot.levels) > 1 and not _legend_below(plot):
        axes.legend()


def _legend_below(plot: LinePlot) -> int:
    """The lines of a legend that would cover the curves, so that it stands below the plot; otherwise 0."""
    names = [curve.name for curve in plot.curves] + list(plot.levels)
    return len(names) if len(names) > 1 and max(map(len, names)) > LONG_NAME else 0


def _logarithmic(axes: Axes) -> None:
    """Ticks at powers of ten, or if these are few also at multiples of 2 and 5, as plain numbers."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _bars(axes: Axes, plot: BarPlot) -> None:
    """Horizontal bars, so that long names stay readable."""
    width = 0.8 / len(plot.series)
    colours = _colours(len(plot.series))
    for index, (name, estimates) in enumerate(plot.series.items()):
        offset = (index - (len(plot.series) - 1) / 2) * width
        shown = [(place + offset, e) for place, e in enumerate(estimates) if e is not None]
        places = [place for place, _ in shown]
        values = [e.value for _, e in shown]
        reach = [
            [max(0.0, e.value - e.low) for _, e in shown],
            [max(0.0, e.high - e.value) for _, e in shown],
        ]
        axes.barh(places, values, width * 0.9, color=colours[index], label=name)
        axes.errorbar(values, places, xerr=reach, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    axes.set_yticks(range(len(plot.groups)), list(plot.groups))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_xlabel(plot.value_label)
    axes.set_xlim(left=0)
    if len(plot.series) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def _binned(curve: Curve) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, minimum, mean and maximum over equal bins of a curve, so that a long run gives a small page."""
    stretches = np.array_split(np.arange(len(curve.x)), POINTS)
    x, y = np.asarray(curve.x, dtype=float), np.asarray(curve.y, dtype=float)
    return (
        np.array([x[s].mean() for s in stretches]),
        np.array([y[s].min() for s in stretches]),
        np.array([y[s].mean() for s in stretches]),
        np.array([y[s].max() for s in stretches]),
    )


def _colours(count: int) -> list[str]:
    return [SERIES[index % len(SERIES)] for index in range(count)]


def _svg(figure: Figure, title: str) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r'<svg[^>]*viewBox="([^"]+)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-label="{_safe(title)}">',
        svg,
        count=1,
    )
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Remove the white background, so that the page's own shows through.
    svg = svg.replace("fill: #ffffff", "fill: none")
    svg = re.sub(r"(font: [^;\"]*?px )[^;\"]*", r"\1var(--sans)", svg)
    return re.sub("|".join(VARIABLES), lambda match: VARIABLES[match.group()], svg)


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace("\\", "\\\\")
