"""A question with its answer, and what a grader says of a reply."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from camelid.base.errors import CamelidError


@dataclass(frozen=True)
class Item:
    """One question of a task; raises `CamelidError` where the answer is not among the choices."""

    id: str
    question: str
    answer: str
    choices: tuple[str, ...] | None = None
    aliases: tuple[str, ...] = ()
    """Other answers that are as right."""
    rationale: str = ""
    """The worked steps that lead to the answer, where they are known."""
    lettered: bool = False
    """Whether a prompt must show the choices, with letters, because the question does not name them."""
    contexts: tuple[str, ...] = ()
    """For each choice the text that its ending follows, where the choices differ in what stands before."""
    endings: tuple[str, ...] = ()
    """What is scored for each choice, where that is not the choice itself; without choices, the one target."""
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
            raise CamelidError(f"there is one choice only, {self.choices}; a question needs two or none")
        if self.answer not in self.choices:
            raise CamelidError(f"the answer {self.answer!r} is none of the choices {list(self.choices)}")
        if self.lettered and len(self.choices) > len(ascii_uppercase):
            raise CamelidError(f"{len(self.choices)} choices are more than the alphabet has letters")

    @property
    def answers(self) -> tuple[str, ...]:
        """Every right answer, the one that is printed first."""
        return (self.answer, *self.aliases)


@dataclass(frozen=True)
class Grade:
    """What one way of reading a reply found in it, and whether that is right."""

    extracted: str | None
    correct: bool
    degree: float | None = None
    """How right it is, from 0 to 1, where that is a matter of degree, as the overlap with a reference is."""

    @property
    def value(self) -> float:
        """What the metric averages."""
        return float(self.correct) if self.degree is None else self.degree


Grades = Mapping[str, Grade]
"""A grade for each metric."""

Grader = Callable[[Item, str], Grades]
"""Reads a reply; its metrics are the same for every item."""
