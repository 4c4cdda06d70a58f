"""Uneven gains of tasks with scale, and discontinuous ones: PaLM (arXiv:2204.02311), section 6.2."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

POINTS = 10.0
"""Points above the projection from which PaLM calls an improvement discontinuous."""


class Gain(NamedTuple):
    """A task's score in points at the largest size, and what the smaller sizes project."""

    score: float
    projected: float

    @property
    def excess(self) -> float:
        """Points above the projection."""
        return self.score - self.projected

    @property
    def discontinuous(self) -> bool:
        """Whether the improvement exceeds the projection by more than `POINTS`."""
        return self.excess > POINTS


def project(sizes: Sequence[float], scores: Sequence[float]) -> Gain:
    """The score of the last size beside the line through the others' scores over the logarithm of size.

    PaLM fits two sizes, 8B and 62B, and projects 540B. Graded scores jump where the loss of the right answer
    falls smoothly (Schaeffer et al. 2023, arXiv:2304.15004), so look at both.
    """
    slope, height = np.polyfit(np.log(sizes[:-1]), scores[:-1], 1)
    return Gain(float(scores[-1]), float(slope * np.log(sizes[-1]) + height))
