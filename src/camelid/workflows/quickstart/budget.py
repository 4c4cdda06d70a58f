"""The quickstart's time budget, divided over the stages."""

import time
from dataclasses import dataclass

TUNING_SHARE = 0.36
"""Share of the training time for tuning; the rest is for pretraining."""
CLOSING_SHARE = 0.14
"""Share of the whole time that is kept for quantising, evaluation and the report."""
CLOSING_LEAST = 20.0
"""Seconds at least for these; even a small evaluation needs them."""


@dataclass
class Budget:
    """Seconds in total, and seconds used by earlier calls of the same quickstart."""

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
        """Seconds kept for quantising, evaluation and the report."""
        return max(CLOSING_LEAST, CLOSING_SHARE * self.seconds)

    @property
    def for_training(self) -> float:
        """Seconds left for pretraining and tuning together."""
        return max(1.0, self.seconds - self.used - self.for_closing)
