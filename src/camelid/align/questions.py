"""The questions that a policy answers while it learns, and how its answers are graded."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

from camelid.base.errors import WrongCall
from camelid.data.read.prompts import Questions
from camelid.lm.interface import LM, Completion, Prompt, Score
from camelid.lm.sampling import Sampling
from camelid.prompting.attempt import Program, Read
from camelid.tasks.graders import LENIENT
from camelid.tasks.item import Grade, Item
from camelid.tasks.reward_function import Sample
from camelid.tasks.task import Task

logger = logging.getLogger(__name__)


class _Asked(LM):
    """Remembers what a program asks, and answers nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[Prompt, Sampling]] = []

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        self.asked += [(prompt, sampling) for prompt in prompts]
        return [[Completion("", (), (), "stop")] for _ in prompts]

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        raise WrongCall("a policy learns from answers that it writes: take a program that generates")


@dataclass(frozen=True)
class Asked:
    """A question as the policy is asked it.

    question: the same text for all that ask the same, by which questions are held out. columns: what a reward
    function is given beside prompt and answer, such as the right `answer`. task: that of the question, whose
    grader says whether an answer is right; a prompt alone has none. where: the file and line of a prompt, or
    the question of a task, for messages.
    """

    id: str
    question: str
    prompt: Prompt
    sampling: Sampling
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)
    task: Task | None = None
    item: Item | None = None
    where: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The question as it is shown to people."""
        return self.question if self.item is None else self.item.question

    def grade(self, text: str) -> Grade | None:
        """The grade of an answer, by the reading that evaluations are compared by, if there is a task."""
        if self.task is None or self.item is None:
            return None
        grades = self.task.grade(self.item, text)
        return grades[LENIENT if LENIENT in grades else next(iter(grades))]

    def sample(self, text: str) -> Sample:
        """An answer as rewards are given it."""
        return Sample(self.prompt, text, self.columns)


def asked_by(program: Program, task: Task) -> list[Asked]:
    """The task's questions as the program asks them; raises `WrongCall` if it asks more than once each."""
    found = []
    for item in task.items:
        lm = _Asked()
        program(lm, [item], cast(Read, task.read))
        if len(lm.asked) != 1:
            raise WrongCall(
                f"{program.name} asks {len(lm.asked)} times for an answer, and a policy learns from one "
                "reply; give --chat, or --shots K with chain_of_thought"
            )
        [(prompt, sampling)] = lm.asked
        where = f"{task.name}, question {item.id}"
        found.append(Asked(item.id, item.asked, prompt, sampling, item.columns, task, item, where))
    return found


def prompts_of(
    paths: Sequence[Path], sampling: Sampling, skip_bad_rows: bool = False, limit: int | None = None
) -> list[Asked]:
    """The first `limit` prompts in files, as conversations whose last answer is left out."""
    questions = Questions(paths, skip_bad_rows)
    found = [
        Asked(each.id, each.text, each.conversation, sampling, each.columns, where=each.where)
        for each in islice(questions, limit)
    ]
    if skipped := questions.skipped:
        logger.warning(f"{len(skipped)} bad rows of the prompts are skipped; the first: {skipped[0]}")
    return found
