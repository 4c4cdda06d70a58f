"""What a policy's answers are rewarded by: the grader of their task, or any reward by name."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from camelid.align.questions import Asked
from camelid.base.digest import digest_file, digest_path
from camelid.base.errors import CamelidError, WrongCall, shortened
from camelid.evals.rewards import Reward
from camelid.formats.hub import resolve
from camelid.tasks.graders import GRADERS
from camelid.tasks.reward_function import is_reward_function

Rewarding = Callable[[Sequence[Asked], Sequence[str]], list[float]]
"""The reward of each answer to its question."""


def graded(asked: Sequence[Asked], texts: Sequence[str]) -> list[float]:
    """The grade by the task of each question: 1 for a right answer, else 0, or how right it is."""
    grades = [each.grade(text) for each, text in zip(asked, texts, strict=True)]
    if None in grades:
        raise WrongCall("prompts have no grader: give --rewarded-by FILE.py:NAME or a reward model's folder")
    return [grade.value for grade in grades if grade is not None]


def rewarded_by(reward: Reward) -> Rewarding:
    """The numbers that a reward gives; raises `CamelidError` for one that is not finite."""

    def numbers(asked: Sequence[Asked], texts: Sequence[str]) -> list[float]:
        pairs = list(zip(asked, texts, strict=True))
        found = reward.score([each.sample(text) for each, text in pairs])
        for (each, text), number in zip(pairs, found, strict=True):
            if not math.isfinite(number):
                raise CamelidError(
                    f"{reward.name} rewards an answer to {each.id} with {number}, which must be a finite "
                    f"number; the answer: {shortened(text, 200)}"
                )
        return found

    return numbers


def digest_of_reward(name: str) -> str:
    """The digest of a function's file or of a model's folder; for a grader its name."""
    if is_reward_function(name):
        return digest_file(Path(name.rpartition(":")[0]))
    return name if name in GRADERS else digest_path(resolve(name))
