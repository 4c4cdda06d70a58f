"""The contents of a report as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from camelid.text.conversation import Conversation


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, in the same unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """Points joined by a line; `spread`: many noisy points, shown as means with their range.

    labels: text above each point; may be empty.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: bool = False
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class LinePlot:
    """Curves, and named horizontal lines (`levels`); logarithmic: the scale of the y axis."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    from_zero: bool = False
    caption: str = ""
    levels: Mapping[str, float] = field(default_factory=dict)
    logarithmic: bool = False


@dataclass(frozen=True)
class BarPlot:
    """Bars with intervals: one group per name with one bar per series; None: not measured."""

    title: str
    value_label: str
    groups: tuple[str, ...]
    series: Mapping[str, tuple[Estimate | None, ...]]
    caption: str = ""


Cell = str | int | float | Estimate | None


@dataclass(frozen=True)
class Table:
    """Rows under column names; numbers are right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Dialogue:
    """A sample conversation under a title."""

    title: str
    conversation: Conversation


@dataclass(frozen=True)
class Passage:
    """A sample text under a title; `monospace` for recipes, commands and files."""

    title: str
    text: str
    monospace: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and the contents below it in this order."""

    title: str
    text: str = ""
    figures: tuple[LinePlot | BarPlot, ...] = ()
    tables: tuple[Table, ...] = ()
    dialogues: tuple[Dialogue, ...] = ()
    passages: tuple[Passage, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Report:
    """One page: title, a summary of one sentence a line, key facts, the next commands, and sections."""

    title: str
    summary: str
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    footer: str = ""
