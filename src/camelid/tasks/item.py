"""A question with its answer, and the grades of a reply."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from camelid.base.errors import CamelidError

_LISTING = re.compile(r"(?:Answer Choices|Options):|\([A-Za-z]\)", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One question of a task; raises `CamelidError` if the answer is not among the choices."""

    id: str
    question: str
    answer: str
    choices: tuple[str, ...] | None = None
    aliases: tuple[str, ...] = ()
    """Other right answers."""
    rationale: str = ""
    """The worked steps that lead to the answer, if known."""
    lettered: bool = False
    """Whether a prompt must list the choices with letters because the question does not name them."""
    group: str = ""
    """What the question is about, if exemplars must be of the same group."""
    contexts: tuple[str, ...] = ()
    """For each choice the text before its ending, if the choices differ in that."""
    endings: tuple[str, ...] = ()
    """The text to score for each choice, if that is not the choice itself; without choices, the single
    target."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.answer.strip():
            raise CamelidError("the answer is empty")
        for name, texts in (("contexts", self.contexts), ("endings", self.endings)):
            if texts and len(texts) != len(self.choices or self.endings):
                raise CamelidError(f"there are {len(texts)} {name} for {len(self.choices or ())} choices")
        if self.choices is None:
            return
        if len(self.choices) < 2:
            raise CamelidError(f"there is only one choice, {self.choices}; give at least two, or none")
        if self.answer not in self.choices:
            raise CamelidError(f"the answer {self.answer!r} is not one of the choices {list(self.choices)}")
        if self.lettered and len(self.choices) > len(ascii_uppercase):
            raise CamelidError(f"there are {len(self.choices)} choices; letters suffice for at most 26")

    @property
    def asked(self) -> str:
        """The question with its lettered choices, but without the letters: the same for items that ask the
        same."""
        listed = " ".join(self.choices) if self.choices and self.lettered else ""
        return " ".join(_LISTING.sub(" ", f"{self.question} {listed}").split()).casefold()

    @property
    def answers(self) -> tuple[str, ...]:
        """Every right answer; the one that is shown comes first."""
        return (self.answer, *self.aliases)

    @property
    def columns(self) -> dict[str, Any]:
        """What a reward function may name of the question."""
        choices = list(self.choices) if self.choices else None
        return {"id": self.id, "question": self.question, "answer": self.answer, "choices": choices}


@dataclass(frozen=True)
class Grade:
    """The answer that one way of reading extracted from a reply, and whether it is right."""

    extracted: str | None
    correct: bool
    degree: float | None = None
    """How right it is, from 0 to 1, for metrics of degree such as the overlap with a reference."""
    tied: bool = False
    """Whether other choices are exactly as probable as the most probable one, so that none is chosen."""

    @property
    def value(self) -> float:
        """The value that the metric averages."""
        return float(self.correct) if self.degree is None else self.degree


Grades = Mapping[str, Grade]
"""A grade for each metric."""

Grader = Callable[[Item, str], Grades]
"""Grades a reply; it returns the same metrics for every item."""
