"""A published data set of questions to reason about, as a value."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError
from camelid.prompting.asking import QUESTION_ANSWER, Wording
from camelid.prompting.least_to_most import Decomposition
from camelid.tasks.item import Grader, Item
from camelid.tasks.item_rows import ID_KEYS, Row, keys_seen, rows_with_places
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
        return list(self._items(path))

    def _items(self, path: Path) -> Iterator[Item]:
        index = -1
        for index, (row, where) in enumerate(self.rows(path)):
            identity = str(next((row[key] for key in ID_KEYS if key in row), index))
            try:
                yield Item(identity, **self.read(row))
            except CamelidError as error:
                raise CamelidError(f"{where}: not a row of {self.name}: {error}") from error
            except KeyError as error:
                raise CamelidError(
                    f"{where}: not a row of {self.name}: there is no {error}: {keys_seen(row)}"
                ) from error
        if index < 0:
            raise CamelidError(f"{path}: there are no rows in it")
