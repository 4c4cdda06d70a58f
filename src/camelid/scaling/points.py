"""Training runs as points of a scaling law: parameters, tokens, FLOPs and final loss of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Variable = Literal["parameters", "tokens", "flops"]
FLOPS_PER_PARAMETER_AND_TOKEN = 6.0
"""Training FLOPs of a weight and token: 2 forward, 4 backward (Kaplan et al. 2020, arXiv:2001.08361, 2.1)."""
PF_DAY = 8.64e19
"""FLOPs of a petaFLOP/s-day (Kaplan et al. 2020, section 1.3)."""
SAME = 0.01
"""Sizes whose logarithms differ by less count as one: published sizes are read off figures."""
LONGEST = 3
"""Times that distance that a group may span."""


@dataclass(frozen=True)
class Points:
    """Runs as columns: parameters, training tokens, FLOPs, loss in nats per token, and where each is from."""

    parameters: Floats
    tokens: Floats
    flops: Floats
    loss: Floats
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        parameters: Sequence[float] | Floats,
        tokens: Sequence[float] | Floats,
        loss: Sequence[float] | Floats,
        *,
        flops: Sequence[float] | Floats | None = None,
        names: Sequence[str] | None = None,
    ) -> Self:
        """Points from columns; flops: by default 6 x parameters x tokens."""
        n, d, values = (np.asarray(column, dtype=np.float64) for column in (parameters, tokens, loss))
        c = FLOPS_PER_PARAMETER_AND_TOKEN * n * d if flops is None else np.asarray(flops, dtype=np.float64)
        return cls(n, d, c, values, tuple(names or [f"run {number}" for number in range(1, len(n) + 1)]))

    def __len__(self) -> int:
        return len(self.loss)

    def column(self, variable: Variable) -> Floats:
        """The values of one variable."""
        values: Floats = getattr(self, variable)
        return values

    def take(self, index: Sequence[int] | NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """The points at an index or where a mask is true."""
        rows = np.arange(len(self))[np.asarray(index)]
        n, d, c, loss = (each[rows] for each in (self.parameters, self.tokens, self.flops, self.loss))
        return type(self)(n, d, c, loss, tuple(self.names[row] for row in rows))

    def levels(self, variable: Variable) -> Floats:
        """The different values of a variable, ascending; those closer than `SAME` count once."""
        return np.array([np.exp(group.mean()) for group in _groups(np.log(self.column(variable)))])

    def level_of(self, variable: Variable) -> NDArray[np.intp]:
        """The place among `levels` of each point's value."""
        logs = np.log(self.column(variable))
        return np.searchsorted([group[0] for group in _groups(logs)], logs, side="right") - 1

    def by(self, variable: Variable, same: float = SAME) -> list[Self]:
        """The points with the same value of a variable, in ascending order of it; same: see `SAME`."""
        logs = np.log(self.column(variable))
        return [self.take((logs >= group[0]) & (logs <= group[-1])) for group in _groups(logs, same)]


def _groups(logs: Floats, same: float = SAME) -> list[Floats]:
    """Ascending groups of values with gaps of at most `same`; chains that are longer than `LONGEST` times
    that are divided, each part within `same` of its first, since a dense range would be one group."""
    ordered = np.sort(logs)
    groups = []
    for chain in np.split(ordered, np.flatnonzero(np.diff(ordered) > same) + 1):
        reach = same if len(chain) and chain[-1] - chain[0] > LONGEST * same else np.inf
        while len(chain):
            part, chain = np.split(chain, [np.searchsorted(chain, chain[0] + reach, side="right")])
            groups.append(part)
    return groups
