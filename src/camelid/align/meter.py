"""What the objectives of PPO and GRPO measure while they compute the loss of an update."""

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from camelid.align.kl import k3
from camelid.recipes.rollouts import RolloutSettings
from camelid.train.parallel import ProcessGroup


@dataclass
class Meter:
    """Means over the tokens of an update, from its micro-batches in all processes."""

    group: ProcessGroup = field(default_factory=ProcessGroup)
    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    tokens: int = 0

    def add(self, ratio: Tensor, loss: Tensor, answered: Tensor, settings: RolloutSettings) -> None:
        """Adds a micro-batch: how far its tokens' probabilities have moved since they were sampled."""
        moved, losses = ratio.detach()[answered], loss.detach()[answered]
        self.tokens += len(moved)
        beyond = (moved < 1 - settings.clip_low) | (moved > 1 + settings.clip_high)
        self._add("clip_fraction", beyond)
        self._add("update_kl", k3(-moved.log()))
        self._add("policy_loss", losses)

    def add_values(
        self, values: Tensor, before: Tensor, losses: Tensor, answered: Tensor, clip: float
    ) -> None:
        """Adds the values of the same micro-batch."""
        self._add("value_clip_fraction", ((values - before).detach().abs() > clip)[answered])
        self._add("value_loss", losses.detach()[answered])

    def _add(self, name: str, values: Tensor) -> None:
        self.sums[name] += float(values.sum())

    def read(self) -> dict[str, float]:
        """The means, which are then forgotten; all processes must call it."""
        values = torch.tensor([*self.sums.values(), self.tokens], dtype=torch.float64)
        *totals, tokens = self.group.sum(values).tolist()
        means = {name: total / max(1, tokens) for name, total in zip(self.sums, totals, strict=True)}
        self.sums.clear()
        self.tokens = 0
        return means
