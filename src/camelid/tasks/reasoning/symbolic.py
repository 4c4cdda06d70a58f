"""Last-letter concatenation (Wei et al., arXiv:2201.11903, section 5)."""

import re
from collections.abc import Sequence
from typing import Any

from camelid.base.errors import CamelidError
from camelid.prompting.asking import Question
from camelid.prompting.least_to_most import LIST, Decomposition
from camelid.tasks.graders import letters
from camelid.tasks.item_rows import Row, plain_answer
from camelid.tasks.reasoning.cleansing import KOJIMA_LAST_LETTERS
from camelid.tasks.reasoning.dataset import Dataset
from camelid.tasks.reasoning.exemplars import LAST_LETTERS, LAST_LETTERS_STEP_BY_STEP

_WORDS = re.compile(r'"([^"]+)"')


def words_of(question: str) -> list[str]:
    """The words whose last letters are asked for; raises `CamelidError` if none are in quotation marks."""
    quoted = _WORDS.search(question)
    if quoted is None:
        raise CamelidError(f"the question {question[:60]!r} has no words in quotation marks")
    return quoted[1].split()


def _read(row: Row) -> dict[str, Any]:
    fields = plain_answer(row)
    words_of(fields["question"])
    return fields


def _beginnings(question: Question) -> Sequence[str]:
    words = words_of(question.question)
    return [f'"{", ".join(words[:count])}"' for count in range(min(2, len(words)), len(words) + 1)]


LAST_LETTER = Dataset(
    name="last_letters",
    version=1,
    read=_read,
    grader=letters,
    source="arXiv:2201.11903, section 5; kojima-takeshi188/zero_shot_cot, dataset/last_letters",
    exemplars=LAST_LETTERS,
    decomposition=Decomposition(LAST_LETTERS_STEP_BY_STEP, wording=LIST, parts=_beginnings),
    paper=KOJIMA_LAST_LETTERS,
)
