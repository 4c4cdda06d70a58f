"""Ends a training run by the clock: the last update moves as the machine's speed does, without a cliff.

A plan decides at set updates when the run ends, from the time left and the speed so far. The learning rate
stays at its peak until the last `decay_fraction` of the updates and then falls linearly (warm-up, stable,
decay; Hu et al. 2024, arXiv:2404.06395); where the end moves during the fall, the rate goes on from where it
is. Every decision is written to RUN/plan.json before it applies, so a resumed run repeats it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

from camelid.base.json import read_table, write_json
from camelid.recipes.training import Training

PLAN = "plan.json"
DECISIONS = 32
"""Decisions in a run as planned; late ones change little, so that the end comes within a few percent."""
LEAST_DECAY = 0.05
"""Updates of the fall at least, relative to those made: a run that is out of time still ends at a low
rate."""

T = TypeVar("T")


@dataclass(frozen=True)
class TimeLimit:
    """A stage should end when `clock()` reaches `ends_at` seconds."""

    ends_at: float
    clock: Callable[[], float]


@dataclass
class TimePlan:
    """The updates of a run that ends by the clock: at most the recipe's `total_steps`."""

    training: Training
    decided: dict[int, int] = field(default_factory=dict)
    """The run's last update, as decided after each of these updates."""

    @property
    def every(self) -> int:
        """Updates between two decisions."""
        return max(1, self.training.total_steps // DECISIONS)

    def end(self, updates: int | None = None) -> int:
        """The number of updates of the run, as decided after `updates` of them (by default, all so far)."""
        known = [at for at in self.decided if updates is None or at <= updates]
        return self.decided[max(known)] if known else self.training.total_steps

    def propose(self, updates: int, seconds_left: float, seconds_per_update: float) -> int:
        """The number of updates that fit into the time left after `updates` of them."""
        least = max(1, round(LEAST_DECAY * updates * self._height(updates)))
        affordable = int(max(0.0, seconds_left) / seconds_per_update) if seconds_per_update > 0 else least
        return min(self.training.total_steps, updates + max(least, affordable))

    def rate(self, step: int) -> float:
        """The learning rate of update number `step`, from 0."""
        training = self.training
        if step < training.total_warmup_steps:
            return training.learning_rate * (step + 1) / (training.total_warmup_steps + 1)
        floor = training.min_learning_rate_ratio
        return training.learning_rate * (floor + (1 - floor) * self._height(step))

    def _height(self, step: int) -> float:
        """The rate between the floor, 0, and the peak, 1."""
        began, height = 0, 1.0
        starts = [0, *sorted(at for at in self.decided if at <= step)]
        for start in starts:
            height = self._piece(began, height, start)
            began = start
        return self._piece(began, height, step)

    def _piece(self, began: int, height: float, step: int) -> float:
        """The height at `step`, from that at update `began` and the end decided there."""
        end = self.end(began)
        decaying = round(self.training.decay_fraction * (end - self.training.total_warmup_steps))
        falls = max(began, end - decaying) if height == 1.0 else began
        return height * (1 - min(1.0, max(0, step - falls) / max(1, end - falls)))


class ClockedRun:
    """Takes the decisions of a plan as the clock goes, and keeps them in the run's folder.

    limit: None where the recipe's number of updates decides.
    """

    def __init__(self, folder: Path, training: Training, limit: TimeLimit | None) -> None:
        self.path = folder / PLAN
        self.limit = limit
        self.plan = TimePlan(training, {} if limit is None else _decided(self.path))
        self._since: tuple[int, float] | None = None
        self._paces: list[float] = []

    def decide(self, updates: int) -> int:
        """The number of updates of the run; a decision is taken if one is due after `updates` of them."""
        if self.limit is not None:
            now = self.limit.clock()
            if (
                self._since is None
            ):  # the first update of a call may compile, and says little about the others
                self._since = (updates, now)
            elif updates % self.plan.every == 0 and updates < self.plan.end(updates):
                first, began = self._since
                self._since = (updates, now)
                self._paces.append((now - began) / (updates - first))
                if updates not in self.plan.decided:
                    left = self.limit.ends_at - now
                    self.plan.decided[updates] = self.plan.propose(updates, left, self._pace(updates))
                    write_json(self.path, {"decided": {str(at): n for at, n in self.plan.decided.items()}})
        return self.plan.end(updates)

    def _pace(self, updates: int) -> float:
        """Seconds per update: the median of the last three intervals, so that one slow interval does not end
        the run; near the end, where it could no longer be corrected, the last."""
        near = self.plan.end(updates) - updates <= 3 * self.plan.every
        return self._paces[-1] if near else median(self._paces[-3:])

    def until_end(self, batches: Iterable[T], start: int) -> Iterator[T]:
        """The batches of the updates from `start` on, as long as the run has not ended."""
        remaining = iter(batches)
        number = start
        while number < self.plan.end(number):
            yield next(remaining)
            number += 1


def _decided(path: Path) -> dict[int, int]:
    return {int(at): int(end) for at, end in read_table(path)["decided"].items()} if path.exists() else {}
