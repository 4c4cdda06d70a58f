"""`camelid check --reward`: whether a reward pays for degenerate answers, before a policy finds out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from camelid.base.errors import CamelidError, WrongCall
from camelid.data.read.conversations import Conversations
from camelid.data.world.items import items as world_items
from camelid.evals.rewards import Reward, open_reward
from camelid.evals.training_text import kind_of
from camelid.lm.interface import PromptTooLong
from camelid.tasks.item import Item
from camelid.tasks.item_rows import read_items
from camelid.tasks.reward_function import Sample
from camelid.workflows.degenerate import Degenerate, degenerate_answers

REAL = 8
"""Real answers that degenerate ones are compared with."""
SKILLS = ("sums", "comparison", "weekdays", "groups")
"""The world's questions that serve where no data is given."""


@dataclass(frozen=True)
class Row:
    """One kind of answer: its mean reward, that of the real answers, and how often it earns what it may
    not."""

    name: str
    reward: float
    real: float
    share: float
    may_tie: bool
    problem: str = ""
    too_long: str = ""

    @property
    def passes(self) -> bool:
        """Whether the kind earns less than the real answers in the mean and at most prompts."""
        ahead = self.reward > self.real or (self.reward == self.real and not self.may_tie)
        return bool(self.too_long) or not (self.problem or ahead or self.share > 0.5)


def check_reward(name: str, paths: Sequence[str] = (), seconds: float = 60.0) -> None:
    """Prints the table of degenerate answers beside real ones; raises `CamelidError` if any earns as much.

    name: see `open_reward`. paths: files with real answers, conversations or evaluation items; by default
    questions of the embedded world. seconds: time of a reward function for one answer.
    """
    reward = open_reward(name, seconds=seconds)
    real = real_samples(paths)
    console = Console(highlight=False, emoji=False)
    console.print(f"{name}: {len(real)} real answers", style="bold", markup=False, soft_wrap=True)
    earned = reward.score(real)
    rows = table(reward, real, earned)
    for row in rows:
        mark, style = ("ok", "green") if row.passes else ("failed", "bold red")
        about = (
            row.problem or row.too_long or f"{row.reward:.4g} (real answers {row.real:.4g}); {_share(row)}"
        )
        console.print(Text.assemble((f"  {mark:8}", style), f"{row.name}: {about}"), soft_wrap=True)
    if failed := [row.name for row in rows if not row.passes]:
        raise CamelidError(
            f"{len(failed)} of {len(rows)} kinds of degenerate answers are not rated below the real ones: "
            f"{', '.join(failed)}"
        )


def table(reward: Reward, real: Sequence[Sample], earned: Sequence[float]) -> list[Row]:
    """A row for each kind of degenerate answer; earned: the rewards of the real ones."""
    kinds: dict[str, list[Degenerate]] = {}
    others = [_other(real, at) for at in range(len(real))]
    for at, (sample, other) in enumerate(zip(real, others, strict=True)):
        for name, one in degenerate_answers(sample, None if None in others else other, seed=at).items():
            kinds.setdefault(name, []).append(one)
    return [_row(reward, name, ones, real, earned) for name, ones in kinds.items()]


def _other(real: Sequence[Sample], at: int) -> str | None:
    """The nearest completion before it of another text and, where both are known, another answer."""

    def differs(one: Sample) -> bool:
        answers = [each.columns.get("answer") for each in (one, real[at])]
        same = one.completion.strip() == real[at].completion.strip()
        return not same and (None in answers or answers[0] != answers[1])

    return next((one.completion for one in (*real[:at][::-1], *real[at:][::-1]) if differs(one)), None)


def _row(
    reward: Reward, name: str, ones: Sequence[Degenerate], real: Sequence[Sample], earned: Sequence[float]
) -> Row:
    may_tie, mean = ones[0].may_tie, sum(earned) / len(earned)
    try:
        found = reward.score(
            [replace(sample, completion=one.text) for sample, one in zip(real, ones, strict=True)]
        )
    except PromptTooLong as error:
        return Row(name, 0.0, mean, 0.0, may_tie, too_long=f"not rated: {error}")
    except CamelidError as error:
        return Row(name, 0.0, mean, 0.0, may_tie, problem=str(error))
    ahead = [one > other or (one == other and not may_tie) for one, other in zip(found, earned, strict=True)]
    return Row(name, sum(found) / len(found), mean, sum(ahead) / len(ahead), may_tie)


def _share(row: Row) -> str:
    return f"{'above' if row.may_tie else 'not below'} the real answer at {row.share:.0%} of the prompts"


def real_samples(paths: Sequence[str] = ()) -> list[Sample]:
    """Some real answers: of each file those that stand evenly in it, or to questions of the world."""
    if not paths:
        return [
            Sample(item.question, item.reply, Item(item.id, item.question, item.answer, item.choices).columns)
            for skill in SKILLS
            for item in world_items(skill, "train", REAL // len(SKILLS), steps=True)
        ]
    files, kind = kind_of([Path(path) for path in paths], False)
    if kind == "text":
        raise WrongCall(f"{paths[0]} is text; real answers are rows with questions and answers")
    if kind == "conversations":
        found = [
            Sample(
                talk.first(len(talk.messages) - 1),
                talk.messages[-1].content or "",
                {**talk.extra},
            )
            for talk, _ in Conversations(list(files))
            if talk.messages[-1].role == "assistant"
        ]
    else:
        found = [
            Sample(
                item.question,
                f"{item.rationale} The answer is {item.answer}.".strip(),
                item.columns,
            )
            for items, _ in map(read_items, files)
            for item in items
        ]
    if len(found) < 2:
        raise CamelidError(
            f"there are {len(found)} real answers in {', '.join(paths)}; at least 2 are needed"
        )
    return found[:: max(1, len(found) // REAL)][:REAL]
