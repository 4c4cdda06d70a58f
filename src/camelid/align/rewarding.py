"""What a policy's answers are rewarded by: the grader of their task, or any reward by name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from camelid.align.questions import Asked
from camelid.base.digest import digest_file, digest_path
from camelid.base.errors import WrongCall
from camelid.evals.rewards import Reward
from camelid.formats.hub import resolve
from camelid.lm.interface import Completion
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
    """The numbers that a reward gives."""
    return lambda asked, texts: reward.score(
        [each.sample(text) for each, text in zip(asked, texts, strict=True)]
    )


def rewards_of(
    reward: Rewarding, asked: Sequence[Asked], answers: Sequence[Completion], cut_reward: float | None
) -> list[float]:
    """The rewards of answers; `cut_reward`, if given, is that of each that ends at the length limit."""
    rewards = reward(asked, [one.text for one in answers])
    if cut_reward is None:
        return rewards
    pairs = zip(answers, rewards, strict=True)
    return [cut_reward if one.finish_reason == "length" else reward for one, reward in pairs]


def digest_of_reward(name: str) -> str:
    """The digest of a function's file or of a model's folder; for a grader its name."""
    if is_reward_function(name):
        return digest_file(Path(name.rpartition(":")[0]))
    return name if name in GRADERS else digest_path(resolve(name))
