"""What rates answers, by name: a user's Python function, a reward model, or a grader."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from camelid.base.errors import CamelidError, shortened
from camelid.tasks.graders import GRADERS, LENIENT
from camelid.tasks.item import Item
from camelid.tasks.reward_function import SECONDS, RewardFunction, Sample, is_reward_function

Kind = Literal["function", "model", "grader"]


class Reward(Protocol):
    """Rates completions; raises `CamelidError` that names a sample without a finite reward."""

    @property
    def name(self) -> str:
        """What it was opened by."""

    @property
    def kind(self) -> Kind:
        """What kind of judge it is."""

    def score(self, samples: Sequence[Sample]) -> list[float]:
        """A finite number for each sample."""


class ModelReward:
    """A reward model in a folder; it reads text, in its own tokens and template."""

    kind: Kind = "model"

    def __init__(self, name: str, device: str | None = None) -> None:
        from camelid.engine.reward_model import RewardModel

        self.name, self.model = name, RewardModel.load(name, device=device)

    def score(self, samples: Sequence[Sample]) -> list[float]:
        """The rewards of the samples' conversations."""
        scores = self.model.score([each.conversation for each in samples])
        for sample, score in zip(samples, scores, strict=True):
            if not math.isfinite(score):
                raise CamelidError(f"{self.name} gives the reward {score} to {shortened(sample.completion)}")
        return scores


class GraderReward:
    """A grader of `GRADERS`, which compares with the sample's column `answer`: 1 if it is right, else 0."""

    kind: Kind = "grader"

    def __init__(self, name: str) -> None:
        self.name, self.grader = name, GRADERS[name]

    def score(self, samples: Sequence[Sample]) -> list[float]:
        """The lenient grades of the samples."""
        return [self._grade(index, each) for index, each in enumerate(samples)]

    def _grade(self, index: int, sample: Sample) -> float:
        answer, choices = sample.columns.get("answer"), sample.columns.get("choices")
        if not isinstance(answer, str | int | float):
            raise CamelidError(
                f"the grader {self.name} compares with the column `answer`, which sample {index} "
                f"{'lacks' if answer is None else 'has as ' + type(answer).__name__}; add it to the rows"
            )
        item = Item(str(index), str(sample.prompt), str(answer), tuple(choices) if choices else None)
        return self.grader(item, sample.completion)[LENIENT].value


def open_reward(name: str, *, seconds: float = SECONDS, device: str | None = None) -> Reward:
    """The reward named FILE.py:NAME, by a reward model's folder or hub name, or by a grader's name.

    seconds: time of a function for one sample.
    """
    if is_reward_function(name):
        return RewardFunction(name, seconds)
    if name in GRADERS and not Path(name).exists():
        return GraderReward(name)
    return ModelReward(name, device)
