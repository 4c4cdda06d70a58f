"""Samples of the policy as batches: questions, answers by the engine with the present weights, rewards."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from camelid.align.alarms import Watch
from camelid.align.columns import SAMPLED
from camelid.align.learning import Learning
from camelid.align.policy import Policy
from camelid.align.questions import Asked
from camelid.align.rewarding import Rewarding, rewards_of
from camelid.align.samplers import Sampler
from camelid.align.summary import summary
from camelid.base.atomic import atomic_file
from camelid.base.errors import CamelidError
from camelid.data.rows.batches import Batch, collate
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import lay_out, shuffled
from camelid.lm.interface import Completion
from camelid.recipes.rollouts import RolloutSettings
from camelid.runs.run import list_checkpoints
from camelid.train.parallel import ProcessGroup

Stats = dict[str, float]
STATS, EXTRA = "stats", "extra."
"""In the file of a rollout: the key of its stats, and what the names of extra columns begin with."""
COLUMNS = ("tokens", "targets", "weights", "documents", "positions")
BOUNDS = {torch.float32: 1e-4}
"""The largest difference in nats between sampler and trainer by precision, and `LOOSE` in others."""
LOOSE = 1.0


@dataclass
class Rollouts:
    """Batches of sampled answers, `settings.updates` from each rollout; `stats` describes the last one.

    The questions of a rollout and the seeds of its samples depend only on `seed` and its number. Several
    processes share the questions; then each has the whole rollout, and takes its rows of every update. If
    several updates are made with a rollout, it is kept in `folder` until the next one, so that a run which
    is killed between them resumes with it.
    """

    sampler: Sampler
    questions: Sequence[Asked]
    policy: Policy
    reward: Rewarding
    learning: Learning
    watch: Watch
    folder: Path
    seed: int
    stats: Stats = field(default_factory=dict)

    @property
    def settings(self) -> RolloutSettings:
        """Those of the method."""
        return self.learning.settings

    def batches_from(self, step: int) -> Iterator[Batch]:
        """The batches from a step on; a rollout is sampled when its first batch is asked for."""
        if step:
            self.watch.resume(self.settings.updates)
            self.learning.resume(self.watch.history)
        while True:
            number, done = divmod(step, self.settings.updates)
            rollout = self._kept(number) if done else self._sampled(number)
            for update in range(done, self.settings.updates):
                whole = self.learning.completed(self._minibatch(rollout, number, update), step)
                yield self.group.share_of(whole)
                step += 1

    def _minibatch(self, rollout: Batch, number: int, update: int) -> Batch:
        epoch, part = divmod(update, self.settings.minibatches)
        order = shuffled(len(rollout.tokens), self.seed, number * self.settings.epochs + epoch)
        chosen = torch.from_numpy(np.array_split(order, self.settings.minibatches)[part].copy())
        return rollout.take(chosen.sort().values)  # answers to one prompt stand together and share it

    @property
    def group(self) -> ProcessGroup:
        """The processes that share the work."""
        return self.policy.group

    def _sampled(self, number: int) -> Batch:
        self.sampler.renew()
        asked, answers, rewards = self._rewarded(number)
        scored = self.policy.scored(as_batch(answers))
        self.stats = summary(asked, answers, rewards, scored)
        bound = self.settings.largest_difference
        check_sampler(self.stats["sampler_difference"], bound, self.policy.dtype)
        rollout = self.learning.taught(scored, rewards, self.stats)
        self.watch.check(self.stats)
        if self.settings.updates > 1 and self.group.is_main:
            self._keep(number, rollout)
        return rollout

    def _rewarded(self, number: int) -> tuple[list[Asked], list[Completion], Tensor]:
        """The questions of a rollout, each as often as it is answered, all answers, and their rewards
        [questions, group]."""
        group, places = self.settings.group, range(self.settings.questions)
        asked, answers = self._answers(number, self.group.own(places))
        earned = rewards_of(self.reward, asked, answers, self.settings.cut_reward) if asked else []
        own = [*zip(answers, earned, strict=True)]
        # The answers to one question are computed by one process.
        found = self.group.together([own[at : at + group] for at in range(0, len(own), group)])
        questions = [self._question(number * len(places) + place) for place in places]
        rewards = torch.tensor([[reward for _, reward in each] for each in found])
        return (
            [each for each in questions for _ in range(group)],
            [answer for each in found for answer, _ in each],
            rewards,
        )

    def _answers(self, number: int, places: Iterable[int]) -> tuple[list[Asked], list[Completion]]:
        """The questions at these places of a rollout, each as often as it is answered, and all answers."""
        asked, drawn = [], []
        for place in places:
            each = self._question(number * self.settings.questions + place)
            seed = int(np.random.default_rng([self.seed, number, place]).integers(2**31))
            asked += [each] * self.settings.group
            drawn.append(replace(each.sampling, temperature=1.0, samples=self.settings.group, seed=seed))
        prompts = [each.prompt for each in asked[:: self.settings.group]]
        found = self.sampler.answers([*zip(prompts, drawn, strict=True)])
        return asked, [answer for own in found for answer in own]

    def _question(self, place: int) -> Asked:
        epoch, at = divmod(place, len(self.questions))
        return self.questions[int(_order(len(self.questions), self.seed, epoch)[at])]

    def _keep(self, number: int, rollout: Batch) -> None:
        """Writes a rollout down, and removes those that no checkpoint needs any more."""
        columns = {name: getattr(rollout, name) for name in COLUMNS}
        extra = {f"{EXTRA}{name}": column for name, column in rollout.extra.items()}
        self.folder.mkdir(exist_ok=True)
        with atomic_file(self._path(number), replace=True) as draft:
            save_file({**columns, **extra}, draft, {STATS: json.dumps(self.stats)})
        checkpoints = list_checkpoints(self.folder.parent)
        needed = checkpoints[0].step // self.settings.updates if checkpoints else 0
        for old in self.folder.glob("*.safetensors"):
            if int(old.stem) < needed:
                old.unlink()

    def _kept(self, number: int) -> Batch:
        """The rollout that a killed run was in the middle of."""
        path = self._path(number)
        if not path.is_file():
            raise CamelidError(
                f"{path} is missing, with which the run was being trained when it stopped; start a new run "
                "with another --out"
            )
        with safe_open(path, "pt") as file:
            self.stats = json.loads(file.metadata()[STATS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        extra = {name.removeprefix(EXTRA): tensors.pop(name) for name in [*tensors] if EXTRA in name}
        return Batch(**tensors, extra=extra)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.safetensors"


_order = lru_cache(maxsize=2)(shuffled)
"""The order of the questions in an epoch, which is asked for one question at a time."""


def check_sampler(difference: float, bound: float | None, dtype: torch.dtype) -> None:
    """Raises `CamelidError` where trainer and sampler disagree by more than the bound, by default that of the
    precision."""
    bound = bound or BOUNDS.get(dtype, LOOSE)
    if not difference <= bound:
        raise CamelidError(
            f"the trainer's log-probabilities differ by up to {difference:.2g} nats from those that the "
            f"tokens were sampled with, and largest-difference is {bound:g}; with bfloat16 use float32 "
            "(--training.dtype float32), or raise it and weigh tokens by the ratio (importance-cap 2)"
        )


def as_batch(answers: Sequence[Completion]) -> Batch:
    """The answers, one in each row, after their prompts: answered tokens have weight 1."""
    examples = [_example(one) for one in answers]
    width = max(map(len, examples))
    batch = collate([lay_out([each], width, 0) for each in examples])
    assert isinstance(batch, Batch)  # rows are not pairs
    return batch


def _example(one: Completion) -> Example:
    whole = np.array([*one.prompt_tokens, *one.tokens])
    answer = slice(len(one.prompt_tokens) - 1, None)
    weights, sampled = np.zeros(len(whole) - 1, np.float32), np.zeros(len(whole) - 1, np.float32)
    weights[answer], sampled[answer] = 1, one.sampled_logprobs
    return Example(whole[:-1], whole[1:], weights, {SAMPLED: sampled})
