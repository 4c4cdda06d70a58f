"""Samples of the policy as batches: questions, answers by the engine with the present weights, rewards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch

from camelid.align.grpo import ADVANTAGE, SAMPLED, advantages
from camelid.base.errors import CamelidError, WrongCall
from camelid.data.rows.batches import AnyBatch, collate
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import lay_out, shuffled
from camelid.engine.engine import Engine
from camelid.lm.interface import LM, Completion, Prompt, Score
from camelid.lm.sampling import Sampling
from camelid.prompting.attempt import Program, Read
from camelid.recipes.align import GRPOSettings
from camelid.tasks.graders import LENIENT
from camelid.tasks.item import Item
from camelid.tasks.task import Task

MOST_WITHOUT_VARIANCE = 20
"""Updates in a row in which all rewards of each group are equal, after which there is nothing to learn."""


class _Asked(LM):
    """Remembers what a program asks, and answers nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[Prompt, Sampling]] = []

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        self.asked += [(prompt, sampling) for prompt in prompts]
        return [[Completion("", (), (), "stop")] for _ in prompts]

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Score]:
        raise WrongCall("GRPO needs a program that generates")


@dataclass(frozen=True)
class Asked:
    """A question of a task, as a program asks it."""

    task: Task
    item: Item
    prompt: Prompt
    sampling: Sampling

    def reward(self, text: str) -> float:
        """1 for a right answer, by the reading that evaluations are compared by."""
        grades = self.task.grade(self.item, text)
        return grades[LENIENT if LENIENT in grades else next(iter(grades))].value


def asked_by(program: Program, task: Task) -> list[Asked]:
    """The task's questions as the program asks them; raises `WrongCall` if it asks more than once each."""
    found = []
    for item in task.items:
        lm = _Asked()
        program(lm, [item], cast(Read, task.read))
        if len(lm.asked) != 1:
            raise WrongCall(
                f"{program.name} asks {len(lm.asked)} times for an answer, and GRPO trains one reply; give "
                "--chat, or --shots K with chain_of_thought"
            )
        found.append(Asked(task, item, *lm.asked[0]))
    return found


@dataclass
class Rollouts:
    """Batches of sampled answers; `stats` describes the last one.

    The questions of an update and the seeds of their samples depend only on `seed` and its number.
    """

    engine: Engine
    questions: Sequence[Asked]
    settings: GRPOSettings
    seed: int
    stats: dict[str, float] = field(default_factory=dict)

    def batches_from(self, step: int) -> Iterator[AnyBatch]:
        """The batches from a step on, each sampled when it is asked for."""
        silent = 0
        while True:
            self.engine.set_weights()
            batch, varied = self._batch(step)
            silent = 0 if varied else silent + 1
            if silent >= MOST_WITHOUT_VARIANCE:
                raise CamelidError(
                    f"in {silent} updates all answers to each question had the same reward (mean "
                    f"{self.stats['reward']:.3f}), so there is nothing to learn; take questions that the "
                    "model solves sometimes, or a larger --grpo.group"
                )
            yield batch
            step += 1

    def _batch(self, step: int) -> tuple[AnyBatch, bool]:
        groups = []
        for place in range(self.settings.questions):
            each = self._question(step * self.settings.questions + place)
            seed = int(np.random.default_rng([self.seed, step, place]).integers(2**31))
            sampling = replace(each.sampling, temperature=1.0, samples=self.settings.group, seed=seed)
            groups.append((each, sampling))
        completions = self._complete(groups)
        answered = zip(groups, completions, strict=True)
        rewards = torch.tensor([[each.reward(one.text) for one in ones] for (each, _), ones in answered])
        values = advantages(rewards, self.settings)
        self._note(rewards, completions)
        examples = [
            _example(one, float(value), self.settings)
            for ones, row in zip(completions, values, strict=True)
            for one, value in zip(ones, row, strict=True)
        ]
        width = max(map(len, examples))
        return collate([lay_out([each], width, 0) for each in examples]), bool(values.any())

    def _complete(self, groups: Sequence[tuple[Asked, Sampling]]) -> list[list[Completion]]:
        """All samples of all questions as one batch of the engine."""
        requests = [
            [self.engine.request(each.prompt, sampling, sample) for sample in range(sampling.samples)]
            for each, sampling in groups
        ]
        for _ in self.engine.updates([request for group in requests for request in group]):
            pass
        return [[request.completion() for request in group] for group in requests]

    def _question(self, place: int) -> Asked:
        epoch, at = divmod(place, len(self.questions))
        return self.questions[int(shuffled(len(self.questions), self.seed, epoch)[at])]

    def _note(self, rewards: torch.Tensor, completions: Sequence[Sequence[Completion]]) -> None:
        flat = [one for ones in completions for one in ones]
        tokens = sum(len(one.tokens) for one in flat)
        self.stats = {
            "reward": rewards.mean().item(),
            "groups_without_variance": (rewards.std(1) == 0).float().mean().item(),
            "cut": sum(one.finish_reason == "length" for one in flat) / len(flat),
            "answer_tokens": tokens / len(flat),
            "entropy_estimate": -sum(sum(one.logprobs) for one in flat) / tokens,
        }


def _example(one: Completion, advantage: float, settings: GRPOSettings) -> Example:
    """An answer with its tokens' weights, log-probabilities and advantage."""
    whole = np.array([*one.prompt_tokens, *one.tokens])
    answer = slice(len(one.prompt_tokens) - 1, None)
    weights, sampled = np.zeros(len(whole) - 1, np.float32), np.zeros(len(whole) - 1, np.float32)
    weights[answer] = 1 if settings.normalise == "tokens" else 1 / len(one.tokens)
    sampled[answer] = one.sampled_logprobs
    columns = {SAMPLED: sampled, ADVANTAGE: np.float32(advantage) * (weights > 0).astype(np.float32)}
    return Example(whole[:-1], whole[1:], weights, columns)
