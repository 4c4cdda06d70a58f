"""A published data set of questions to reason about, as a value."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError
from camelid.prompting.asking import QUESTION_ANSWER, Wording
from camelid.prompting.least_to_most import Decomposition
from camelid.tasks.graders import numeric, parse_number
from camelid.tasks.item import Grader, Item
from camelid.tasks.item_rows import Row, named_items, rows_with_places
from camelid.tasks.reasoning.cleansing import Cleansing


@dataclass(frozen=True)
class Dataset:
    """How rows become questions, how replies are graded, and what our own exemplars show.

    Any change to `read` or `grader` needs a new `version`.
    """

    name: str
    version: int
    read: Callable[[Row], dict[str, Any]]
    """The fields of an `Item`, except its id."""
    grader: Grader
    source: str
    """Where the questions were published."""
    published: str = ""
    """How many questions the published files have."""
    rows: Callable[[Path], Iterable[tuple[Row, str]]] = rows_with_places
    """Reads the rows of a file, with their places."""
    exemplars: tuple[Item, ...] = ()
    """Solved questions with worked steps, written for this project and in no data set."""
    wording: Wording = QUESTION_ANSWER
    """The texts around a question and its worked steps."""
    decomposition: Decomposition | None = None
    """How its questions are broken down, for least-to-most."""
    paper: Cleansing | None = None
    """How its paper reads a reply, reported beside our own readings."""

    def items(self, path: Path) -> list[Item]:
        """The questions of a file; raises `CamelidError` with file and line for a malformed row."""
        return named_items(self.name, path, self.rows(path), self._fields)

    def _fields(self, row: Row) -> dict[str, Any]:
        fields = self.read(row)
        if self.grader is numeric and parse_number(fields["answer"]) is None:
            raise CamelidError(f"the answer {fields['answer']!r} is not a number")
        return fields
