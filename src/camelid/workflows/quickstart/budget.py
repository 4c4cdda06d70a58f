"""The quickstart's time budget, divided over the stages."""

import time
from collections.abc import Callable
from dataclasses import dataclass

TUNING_SHARE = 0.36
"""Share of the training time for tuning; the rest is for pretraining."""
CLOSING_SHARE = 0.14
"""Share of the whole time that is kept for quantising, evaluation and the report."""
REINFORCE_SHARE = 0.35
"""Share of the whole time for reinforcement, if it is wanted."""
CLOSING_LEAST = 20.0
"""Seconds at least for these; even a small evaluation needs them."""


@dataclass
class Budget:
    """Seconds in total, seconds used by earlier calls of the same quickstart, and the clock (by default, all
    time counts); reinforces: whether tuning is followed by reinforcement."""

    seconds: float
    used_before: float = 0.0
    clock: Callable[[], float] | None = None
    reinforces: bool = False

    def __post_init__(self) -> None:
        self._began = self._now()

    def _now(self) -> float:
        return time.monotonic() if self.clock is None else self.clock()

    @property
    def used(self) -> float:
        """Seconds used so far, over all calls."""
        return self.used_before + self._now() - self._began

    @property
    def for_closing(self) -> float:
        """Seconds kept for quantising, evaluation and the report."""
        return max(CLOSING_LEAST, CLOSING_SHARE * self.seconds)

    @property
    def for_reinforcing(self) -> float:
        """Seconds kept for reinforcement."""
        return REINFORCE_SHARE * self.seconds if self.reinforces else 0.0

    @property
    def for_training(self) -> float:
        """Seconds left for pretraining and tuning together."""
        return max(1.0, self.training_ends - self.used)

    @property
    def training_ends(self) -> float:
        """Seconds used when tuning should end."""
        return self.closing_begins - self.for_reinforcing

    @property
    def closing_begins(self) -> float:
        """Seconds used when the last training should end."""
        return self.seconds - self.for_closing
