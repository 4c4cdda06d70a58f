"""Signs that a policy learns something else than it should: gates that stop the run, alarms that explain.

All are functions of the metrics of updates, so the report finds the same ones in metrics.jsonl.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError
from camelid.runs.run import read_metrics

logger = logging.getLogger(__name__)

Stats = Mapping[str, Any]
MOST_WITHOUT_VARIANCE = 20
"""Rollouts in a row in which all rewards of each group are equal, after which there is nothing to learn."""
MOST_CUT = 5
"""The same of rollouts in which every answer ends at the length limit."""
AT_ONCE = 5
"""Updates that an alarm compares with as many first ones."""
AT_BEST = 20
"""The same of the best ones: more, since the best of many is partly luck."""
SMALLEST_KL = 1e-3
"""What rounding leaves of a divergence of 0, in nats."""


class LearningStopped(CamelidError):  # noqa: N818 -- it reads as what happened
    """A policy that learns nothing, or has gone astray, at a gate."""


@dataclass(frozen=True)
class Alarm:
    """A sign by name: the metrics it needs; whether it shows, from means of the first and of the newest
    updates; and what it means."""

    name: str
    needs: tuple[str, ...]
    shows: Callable[[Stats, Stats], bool]
    meaning: str
    since_best: bool = False
    """Compares with the updates in which most answers were right, instead of the first ones."""


ALARMS = (
    Alarm(
        "entropy",
        ("entropy",),
        lambda first, now: now["entropy"] < 0.1 * first["entropy"],
        "entropy fell from {first[entropy]:.3f} to {now[entropy]:.3f} nats per token: the policy hardly "
        "explores any more; lower the learning rate, or raise kl or clip_high",
    ),
    Alarm(
        "length",
        ("answer_tokens",),
        lambda first, now: not 0.5 < now["answer_tokens"] / first["answer_tokens"] < 2,
        "answers went from {first[answer_tokens]:.0f} to {now[answer_tokens]:.0f} tokens: read some of "
        "them; the reward may pay for length",
    ),
    Alarm(
        "cut",
        ("cut",),
        lambda first, now: now["cut"] > 0.5,
        "{now[cut]:.0%} of the answers end at the length limit: raise --max-new-tokens, or set cut_reward",
    ),
    Alarm(
        "variance",
        ("groups_without_variance",),
        lambda first, now: now["groups_without_variance"] > 0.8,
        "in {now[groups_without_variance]:.0%} of the groups all answers have the same reward (mean "
        "{now[reward]:.3f}): these teach nothing; take questions that the model solves sometimes",
    ),
    Alarm(
        "clipping",
        ("clip_fraction",),
        lambda first, now: now["clip_fraction"] > 0.3,
        "{now[clip_fraction]:.0%} of the tokens are clipped: updates are too large; lower the learning rate "
        "or the number of epochs",
    ),
    Alarm(
        "values",
        ("explained_variance",),
        lambda first, now: now["explained_variance"] < -0.5,
        "values explain {now[explained_variance]:.2f} of the variance of returns, less than a constant "
        "would: raise value_weight or the number of epochs, or lower the learning rate",
    ),
    Alarm(
        "over-optimised",
        (
            "reward",
            "right",
        ),
        lambda first, now: now["reward"] > first["reward"] and now["right"] < first["right"] - 0.05,
        "the reward rose from {first[reward]:.3f} to {now[reward]:.3f} while right answers fell from "
        "{first[right]:.1%} to {now[right]:.1%}: the policy learns what the reward gets wrong; stop "
        "earlier, raise kl, or mend the reward",
        since_best=True,
    ),
    Alarm(
        "format",
        (
            "right",
            "parsed",
            "right_if_parsed",
        ),
        lambda first, now: (
            now["right"] > first["right"] + 0.05 and share_of_format(first, now) > 0.8 * gain(first, now)
        ),
        "right answers rose from {first[right]:.1%} to {now[right]:.1%} almost only because more can be "
        "read ({first[parsed]:.1%}, now {now[parsed]:.1%}): the policy learned the format",
    ),
)


def gain(first: Stats, now: Stats) -> float:
    """How many more answers are right."""
    return float(now["right"] - first["right"])


def share_of_format(first: Stats, now: Stats) -> float:
    """The part of the gain that comes of more readable answers: d(parsed) times the mean of right_if_parsed.

    The rest, d(right_if_parsed) times the mean of parsed, is that of better answers; both add up exactly.
    """
    return float((now["parsed"] - first["parsed"]) * (now["right_if_parsed"] + first["right_if_parsed"]) / 2)


def shown(history: Sequence[Stats]) -> dict[str, str]:
    """The alarms that show after these updates, with what they mean."""
    if len(history) <= AT_ONCE:
        return {}
    now, first = means(history[-AT_ONCE:]), means(history[:AT_ONCE])
    best = means(_best(history[:-AT_ONCE])) if "right" in now and "right" in first else first
    found = {}
    for alarm in ALARMS:
        then = best if alarm.since_best else first
        if all(name in then and name in now for name in alarm.needs) and alarm.shows(then, now):
            found[alarm.name] = alarm.meaning.format(first=then, now=now)
    return found


def _best(history: Sequence[Stats]) -> Sequence[Stats]:
    """Those graded updates in a row, at most `AT_BEST`, in which most answers were right."""
    history = [stats for stats in history if "right" in stats]
    sums = [0.0, *accumulate(stats["right"] for stats in history)]
    count = min(AT_BEST, len(history))
    start = max(range(len(history) - count + 1), key=lambda at: sums[at + count] - sums[at])
    return history[start : start + count]


def means(history: Sequence[Stats]) -> dict[str, float]:
    """The mean of each number that all of these updates have."""
    names = set.intersection(*(set(stats) for stats in history))
    return {
        name: sum(stats[name] for stats in history) / len(history)
        for name in names
        if isinstance(history[0][name], int | float)
    }


@dataclass
class Watch:
    """Looks at a run as it goes: logs an alarm when it first shows, and stops it at a gate.

    metrics: the run's file, with which a resumed run begins.
    """

    metrics: Path
    largest_kl: float
    allow_cut: bool = False
    history: list[Stats] = field(default_factory=list)
    rollouts: list[Stats] = field(default_factory=list)
    logged: set[str] = field(default_factory=set)

    def resume(self, updates_of_rollout: int) -> None:
        """Takes the metrics so far."""
        self.history = updates(read_metrics(self.metrics))
        self.rollouts = self.history[::updates_of_rollout]
        self.logged = {*shown(self.history)}

    def see(self, stats: Stats) -> None:
        """Adds the metrics of an update."""
        self.history.append(stats)
        for name, meaning in shown(self.history).items():
            if name not in self.logged:
                self.logged.add(name)
                logger.warning(f"{name}: {meaning}")

    def check(self, stats: Stats) -> None:
        """Adds the metrics of a rollout, before it is trained on; raises `LearningStopped` at a gate."""
        self.rollouts.append(stats)
        if self._throughout("groups_without_variance", MOST_WITHOUT_VARIANCE):
            raise LearningStopped(
                f"in {MOST_WITHOUT_VARIANCE} rollouts all answers to each question had the same reward (mean "
                f"{stats['reward']:.3f}), so there is nothing to learn; take questions that the model solves "
                "sometimes, or a larger group"
            )
        if not self.allow_cut and self._throughout("cut", MOST_CUT):
            raise LearningStopped(
                f"in {MOST_CUT} rollouts every answer ended at the length limit, so the policy never learns "
                "to end; raise --max-new-tokens, tune the model on answers that end, or set allow_cut"
            )
        if stats["kl"] < -SMALLEST_KL:
            raise CamelidError(
                f"the KL divergence from the reference is {stats['kl']:.3g} nats per answer, and cannot be "
                "negative: policy and reference do not compute in the same way; please report this"
            )
        if not stats["kl"] <= self.largest_kl:
            raise LearningStopped(
                f"answers are {stats['kl']:.3g} nats from the reference, and largest-kl is "
                f"{self.largest_kl:g}: the policy has left its language; lower the learning rate, raise kl, "
                "or raise the bound"
            )

    def _throughout(self, name: str, count: int) -> bool:
        recent = self.rollouts[-count:]
        return len(recent) == count and all(stats[name] == 1 for stats in recent)


def updates(records: Sequence[Stats]) -> list[Stats]:
    """The records of a metrics.jsonl that are of updates."""
    return [record for record in records if "answer_tokens" in record]
