"""Last-letter concatenation and coin flips (Wei et al., arXiv:2201.11903, section 5): read from files, or
generated from names with a seed, as long as in the exemplars or longer."""

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from camelid.base.errors import CamelidError, WrongCall
from camelid.prompting.asking import SO_THE_ANSWER, Question
from camelid.prompting.least_to_most import LIST, Decomposition
from camelid.tasks.graders import choice, letters
from camelid.tasks.item import Item
from camelid.tasks.item_rows import Row, plain_answer
from camelid.tasks.reasoning.cleansing import KOJIMA_LAST_LETTERS, KOJIMA_YES_NO
from camelid.tasks.reasoning.commonsense import yes_no
from camelid.tasks.reasoning.dataset import Dataset
from camelid.tasks.reasoning.exemplars import COIN_FLIPS, LAST_LETTERS, LAST_LETTERS_STEP_BY_STEP
from camelid.tasks.reasoning.names import FIRST_NAMES, LAST_NAMES

GENERATED = 500
"""Questions of a generated task, as many as the published files have."""
LONGEST = 40
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


def _coin(row: Row) -> dict[str, Any]:
    fields = plain_answer(row)
    return {**yes_no(fields["question"], fields["answer"]), "rationale": fields["rationale"]}


def coin_question(people: Sequence[str], flips: Sequence[bool]) -> str:
    """A coin that each of the people flips or not, and whether it is still heads up."""
    flipping = " ".join(
        f"{person} flips the coin." if flipped else f"{person} does not flip the coin."
        for person, flipped in zip(people, flips, strict=True)
    )
    return f"A coin is heads up. {flipping} Is the coin still heads up?"


def _generated_coin(length: int, draw: random.Random) -> dict[str, Any]:
    flips = [draw.random() < 0.5 for _ in range(length)]
    question = coin_question(draw.sample(FIRST_NAMES, length), flips)
    return yes_no(question, sum(flips) % 2 == 0)


def _generated_letters(length: int, draw: random.Random) -> dict[str, Any]:
    """A first name and last names, as the published questions have first and last names in turn."""
    words = [draw.choice(LAST_NAMES if index % 2 else FIRST_NAMES) for index in range(length)]
    question = f'Take the last letters of the words in "{" ".join(words)}" and concatenate them.'
    return {"question": question, "answer": "".join(word[-1] for word in words)}


def generated(dataset: Dataset, setting: str) -> list[Item]:
    """The questions of `coin_flip/4` or, with a seed, `coin_flip/4/1`: the first number is the length.

    All questions differ from each other and from the exemplars. Raises `WrongCall` for another setting.
    """
    length, _, seed = setting.partition("/")
    if not (length.isdecimal() and 2 <= int(length) <= LONGEST and (seed or "0").isdecimal()):
        raise WrongCall(
            f"{dataset.name}/{setting}: after the name comes a length from 2 to {LONGEST}, "
            "and then a seed if "
            f"you like: {dataset.name}/4, {dataset.name}/4/1"
        )
    draw = random.Random(f"{dataset.name}/{int(length)}/{int(seed or 0)}")
    asked = {item.question for item in dataset.exemplars}
    items: list[Item] = []
    while len(items) < GENERATED:
        fields = GENERATORS[dataset.name](int(length), draw)
        if fields["question"] not in asked:
            asked.add(fields["question"])
            items.append(Item(str(len(items)), **fields))
    return items


LAST_LETTER = Dataset(
    name="last_letters",
    version=1,
    read=_read,
    grader=letters,
    source="arXiv:2201.11903, section 5; kojima-takeshi188/zero_shot_cot, dataset/last_letters",
    published="500 of four names",
    exemplars=LAST_LETTERS,
    decomposition=Decomposition(LAST_LETTERS_STEP_BY_STEP, wording=LIST, parts=_beginnings),
    paper=KOJIMA_LAST_LETTERS,
)
COIN_FLIP = Dataset(
    name="coin_flip",
    version=1,
    read=_coin,
    grader=choice,
    source="arXiv:2201.11903, section 5; kojima-takeshi188/zero_shot_cot, dataset/coin_flip",
    published="500 of four people",
    exemplars=COIN_FLIPS,
    wording=SO_THE_ANSWER,
    paper=KOJIMA_YES_NO,
)
DATASETS = (LAST_LETTER, COIN_FLIP)
GENERATORS: dict[str, Callable[[int, random.Random], dict[str, Any]]] = {
    LAST_LETTER.name: _generated_letters,
    COIN_FLIP.name: _generated_coin,
}
"""The fields of one question of a length, for the data sets that can be generated."""
