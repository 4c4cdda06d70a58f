"""Questions of common sense: with lettered choices, or answered yes or no."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError
from camelid.prompting.asking import SO_THE_ANSWER
from camelid.tasks.graders import choice, exact
from camelid.tasks.item_rows import Row, choice_of, labelled_choices, position_of, rows_with_places, text_of
from camelid.tasks.reasoning.choice_exemplars import (
    COMMONSENSE,
    DATES,
    DATES_WITH_CHOICES,
    SHUFFLED_OBJECTS,
    SPORTS,
    STRATEGY,
)
from camelid.tasks.reasoning.cleansing import KOJIMA_YES_NO, WANG_TEXT, kojima_letters
from camelid.tasks.reasoning.dataset import Dataset

YES_NO = ["yes", "no"]
BIG_BENCH = "arXiv:2206.04615; google/BIG-bench"


def yes_no(question: str, answer: object) -> dict[str, Any]:
    """A question with the choices yes and no; raises `CamelidError` for another answer."""
    word = {True: "yes", False: "no"}[answer] if isinstance(answer, bool) else str(answer).strip().lower()
    return choice_of(question, YES_NO, position_of(YES_NO, word, "answer"), lettered=False)


def target_of(row: Row) -> tuple[list[str], str]:
    """The choices of a row of BIG-bench and the right one, which has score 1."""
    scores = row["target_scores"]
    if not isinstance(scores, dict):
        raise CamelidError(f"'target_scores' must map choices to scores, not {scores!r}")
    right = [text for text, score in scores.items() if score == 1]
    if len(right) != 1:
        raise CamelidError(f"'target_scores' gives {len(right)} choices the score 1; it must be one")
    return list(scores), right[0]


def _commonsense(row: Row) -> dict[str, Any]:
    """The published rows, whose question holds its stem and choices, and those with parallel lists."""
    if not isinstance(row["question"], dict):
        return labelled_choices(row)
    inner = row["question"]
    if "answerKey" not in row:
        raise CamelidError("there is no 'answerKey': test questions without answers cannot be graded")
    labels = [str(each["label"]) for each in inner["choices"]]
    texts = [each["text"] for each in inner["choices"]]
    return choice_of(text_of(inner, ("stem",)), texts, position_of(labels, row["answerKey"], "answerKey"))


def _strategy(row: Row) -> dict[str, Any]:
    if "target_scores" not in row:
        facts = row.get("facts", [])
        rationale = " ".join(str(fact).strip() for fact in facts) if isinstance(facts, list) else ""
        return {**yes_no(text_of(row, ("question",)), row["answer"]), "rationale": rationale}
    _, right = target_of(row)
    rationale = str(row.get("target", "")).partition(". ")[2]
    return {**yes_no(text_of(row, ("input",)), right), "rationale": rationale}


def _sports(row: Row) -> dict[str, Any]:
    sentence = text_of(row, ("input",)).strip().rstrip(".")
    answers = {"plausible": "yes", "implausible": "no"}
    _, right = target_of(row)
    return yes_no(f'Is the following sentence plausible? "{sentence}."', answers.get(right, right))


def _different_rows(path: Path) -> Iterator[tuple[Row, str]]:
    """14 sentences of the published file occur twice; without them it has the 986 of Wei et al."""
    known = set[str]()
    for row, where in rows_with_places(path):
        text = str(row.get("input"))
        if text not in known:
            yield row, where
        known.add(text)


def _date(row: Row) -> dict[str, Any]:
    return {"question": text_of(row, ("input",)).strip(), "answer": target_of(row)[1]}


def _date_with_choices(row: Row) -> dict[str, Any]:
    """The right date is the first of nearly all rows, so that the choices are shuffled by their question."""
    choices, right = target_of(row)
    question = text_of(row, ("input",)).strip()
    random.Random(question).shuffle(choices)
    return choice_of(question, choices, choices.index(right))


def _shuffled_objects(row: Row) -> dict[str, Any]:
    choices, right = target_of(row)
    question = f"{text_of(row, ('input',)).strip()} \nWhich choice is true ?"
    return choice_of(question, choices, choices.index(right))


COMMONSENSE_QA = Dataset(
    name="commonsenseqa",
    version=1,
    read=_commonsense,
    grader=choice,
    source="arXiv:1811.00937",
    published="1,221 dev, 9,741 train",
    exemplars=COMMONSENSE,
    wording=SO_THE_ANSWER,
    paper=kojima_letters("E"),
)
STRATEGY_QA = Dataset(
    name="strategyqa",
    version=1,
    read=_strategy,
    grader=choice,
    source=f"arXiv:2101.02235; {BIG_BENCH}",
    published="2,290 in BIG-bench",
    exemplars=STRATEGY,
    wording=SO_THE_ANSWER,
    paper=KOJIMA_YES_NO,
)
SPORTS_UNDERSTANDING = Dataset(
    name="sports_understanding",
    version=1,
    read=_sports,
    grader=choice,
    source=BIG_BENCH,
    published="986; 1,000 with repetitions",
    rows=_different_rows,
    exemplars=SPORTS,
    wording=SO_THE_ANSWER,
    paper=WANG_TEXT,
)
DATE_UNDERSTANDING = Dataset(
    name="date_understanding",
    version=1,
    read=_date,
    grader=exact,
    source=BIG_BENCH,
    published="369",
    exemplars=DATES,
    wording=SO_THE_ANSWER,
    paper=WANG_TEXT,
)
DATE_CHOICES = Dataset(
    name="date_understanding/choices",
    version=1,
    read=_date_with_choices,
    grader=choice,
    source=f"{BIG_BENCH}; with choices as in arXiv:2205.11916",
    published="369",
    exemplars=DATES_WITH_CHOICES,
    wording=SO_THE_ANSWER,
    paper=kojima_letters("F"),
)
SHUFFLED = Dataset(
    name="tracking_shuffled_objects",
    version=1,
    read=_shuffled_objects,
    grader=choice,
    source=BIG_BENCH,
    published="750 with three objects",
    exemplars=SHUFFLED_OBJECTS,
    wording=SO_THE_ANSWER,
    paper=kojima_letters("C"),
)

DATASETS = (COMMONSENSE_QA, STRATEGY_QA, SPORTS_UNDERSTANDING, DATE_UNDERSTANDING, DATE_CHOICES, SHUFFLED)
