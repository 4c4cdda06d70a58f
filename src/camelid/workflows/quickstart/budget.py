"""The one dial of the quickstart: minutes, shared out over the stages."""

import time
from dataclasses import dataclass

TUNING_SHARE = 0.36
"""Of the time for training; the rest pretrains."""
CLOSING_SHARE = 0.14
"""Of all the time, kept for quantising, evaluating and the report."""
CLOSING_LEAST = 20.0
"""Seconds; below this even a small evaluation does not fit."""


@dataclass
class Budget:
    """Seconds in all, and those that earlier calls of the same quickstart have used."""

    seconds: float
    used_before: float = 0.0

    def __post_init__(self) -> None:
        self._began = time.monotonic()

    @property
    def used(self) -> float:
        """Seconds used so far, over all calls."""
        return self.used_before + time.monotonic() - self._began

    @property
    def for_closing(self) -> float:
        """Seconds that the end of the path needs."""
        return max(CLOSING_LEAST, CLOSING_SHARE * self.seconds)

    @property
    def for_training(self) -> float:
        """Seconds left for pretraining and tuning together."""
        return max(1.0, self.seconds - self.used - self.for_closing)
