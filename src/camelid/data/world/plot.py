"""The parts of a story's plot."""

from dataclasses import dataclass

Table = tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Plot:
    """A story about any child: its tables, its three parts, and the questions about it.

    A story draws one row of every table; the drawn cells and the slots of the cast fill the templates.
    `about` completes "a story about ..."; `summary` tells it in one sentence; `questions` are (question,
    answer) pairs.
    """

    name: str
    about: str
    tables: tuple[Table, ...]
    beginning: tuple[str, ...]
    middle: tuple[str, ...]
    ending: tuple[str, ...]
    summary: str
    questions: tuple[tuple[str, str], ...]
