"""The questions that a policy answers while it learns, and how its answers are graded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from camelid.base.errors import WrongCall
from camelid.lm.interface import LM, Completion, Prompt, Score
from camelid.lm.sampling import Sampling
from camelid.prompting.attempt import Program, Read
from camelid.tasks.graders import LENIENT
from camelid.tasks.item import Grade, Item
from camelid.tasks.task import Task


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
    """A question of a task, as a program asks it."""

    task: Task
    item: Item
    prompt: Prompt
    sampling: Sampling

    def grade(self, text: str) -> Grade:
        """The grade of an answer, by the reading that evaluations are compared by."""
        grades = self.task.grade(self.item, text)
        return grades[LENIENT if LENIENT in grades else next(iter(grades))]


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
        found.append(Asked(task, item, *lm.asked[0]))
    return found
