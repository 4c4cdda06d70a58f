"""A published evaluation as a value: how a row becomes a question, the text around it, and how replies are
graded."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camelid.lm.sampling import Sampling
from camelid.prompting.asking import QUESTION_ANSWER, Wording
from camelid.prompting.attempt import ChoiceScore
from camelid.prompting.programs import ANSWER
from camelid.tasks.graders import choice, likelihood
from camelid.tasks.item import Grader, Grades, Item
from camelid.tasks.item_rows import Row, named_items, rows_with_places
from camelid.tasks.record import Record, Total, Totals

Fields = dict[str, Any]
"""The fields of an `Item` except its id."""


def no_totals(records: Sequence[Record]) -> Mapping[str, Total]:
    """No metrics besides the means of the grades."""
    return {}


@dataclass(frozen=True)
class Format:
    """How a published evaluation turns its rows into prompts, and grades the replies.

    Any change here or in how the grader reads a reply needs a new `version`.
    """

    name: str
    version: int
    read: Callable[[Row], Fields]
    wording: Wording
    source: str
    """Where the format was published."""
    few_shot_wording: Wording | None = None
    """The wording with exemplars, if it differs."""
    rows: Callable[[Path], Iterable[tuple[Row, str]]] = rows_with_places
    """Reads the rows of a file, with their places."""
    scored: bool = True
    """Whether the published evaluation scores given texts; otherwise it generates."""
    answer_context: bool = False
    """Whether choices are also scored without their question."""
    sampling: Sampling = ANSWER
    """How a reply is generated; if it has no stop strings, those of the wording apply."""
    grader: Grader = choice
    """Grades generated replies."""
    judge: Callable[[Item, Sequence[ChoiceScore]], Grades] = likelihood
    """Grades scores."""
    totals: Totals = no_totals
    in_order: bool = False
    """Whether exemplars are the first ones of the question's group, in their order, instead of drawn."""
    cut_by_design: bool = False
    """Whether the format itself lets replies end at the length limit."""

    def worded(self, shots: int) -> Wording:
        """The wording for this number of exemplars."""
        return self.few_shot_wording if shots and self.few_shot_wording else self.wording

    def items(self, path: Path) -> list[Item]:
        """The questions of a file; raises `CamelidError` with file and line for a malformed row."""
        return named_items(
            self.name, path, self.rows(path), lambda row: {**self.read(row), "lettered": False}
        )


def continued(answer_context: str = "Answer:", **changes: Any) -> Wording:
    """The wording for a text that is continued unchanged."""
    return reworded("{question}", answer_context=answer_context, **changes)


def reworded(question: str, **changes: Any) -> Wording:
    """The default wording with another question format."""
    return dataclasses.replace(QUESTION_ANSWER, question=question, **changes)


GPT2 = "Radford et al. 2019, section 3"
GPT3 = "arXiv:2005.14165"
HARNESS = "lm-evaluation-harness"
