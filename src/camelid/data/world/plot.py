"""What a plot of a story is made of."""

from dataclasses import dataclass

Table = tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Plot:
    """A story to be told of any child: what is drawn for it, its three parts, and what can be asked about it.

    A story draws one row of every table; the drawn cells and the slots of the cast fill the templates. `about`
    completes "a story about ..."; `summary` tells it in one sentence; `questions` are (question, answer) pairs.
    """

    name: str
    about: str
    tables: tuple[Table, ...]
    beginning: tuple[str, ...]
    middle: tuple[str, ...]
    ending: tuple[str, ...]
    summary: str
    questions: tuple[tuple[str, str], ...]
