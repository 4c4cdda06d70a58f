"""What PPO and GRPO make of a rollout: the columns that their losses need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from camelid.align.columns import ADVANTAGE, OLD, REFERENCE, RETURN, TEXT, VALUE
from camelid.align.grpo import group_advantages, grpo
from camelid.align.meter import Meter
from camelid.align.ppo import (
    adapted_penalty,
    explained_variance,
    generalised_advantages,
    ppo,
    token_rewards,
    whitened,
)
from camelid.align.pretraining_text import PretrainingText
from camelid.data.rows.batches import Batch
from camelid.model.transformer import Transformer
from camelid.recipes.rollouts import GRPOSettings, PPOSettings, RolloutSettings
from camelid.train.loop import Objective

Records = Sequence[Mapping[str, Any]]


class Learning(Protocol):
    """A method that learns from rollouts."""

    @property
    def settings(self) -> RolloutSettings:
        """How rollouts are sampled and used."""

    def objective(self, model: Transformer, dtype: torch.dtype, meter: Meter) -> Objective:
        """The loss."""

    def resume(self, records: Records) -> None:
        """Goes on after updates with these metrics."""

    def taught(self, batch: Batch, rewards: Tensor, stats: dict[str, float]) -> Batch:
        """A scored rollout with its advantages, from the rewards [questions, group]; adds to the stats."""

    def completed(self, batch: Batch, step: int) -> Batch:
        """The batch of an update, with what is trained beside the answers."""


@dataclass
class GRPO:
    """Each answer's advantage is the same in all of its tokens."""

    settings: GRPOSettings

    def objective(self, model: Transformer, dtype: torch.dtype, meter: Meter) -> Objective:
        """The clipped surrogate, and k3 if it has a weight."""
        return grpo(model, dtype, self.settings, meter)

    def resume(self, records: Records) -> None:
        """There is no state."""

    def taught(self, batch: Batch, rewards: Tensor, stats: dict[str, float]) -> Batch:
        """With advantages, and the weights that the normalisation asks for."""
        advantages = group_advantages(rewards, self.settings).flatten()[:, None]
        extra = {**batch.extra, ADVANTAGE: advantages * batch.weights}
        weights = batch.weights
        if self.settings.normalise == "answers":
            weights = weights / weights.sum(1, keepdim=True)
        return replace(batch, weights=weights, extra=extra)

    def completed(self, batch: Batch, step: int) -> Batch:
        """Answers and nothing else."""
        return batch


@dataclass
class PPO:
    """Each token's advantage is how much better it is than its value; see `camelid.align.ppo`.

    text: pretraining text that is trained along. The penalty adapts from rollout to rollout.
    """

    settings: PPOSettings
    text: PretrainingText | None = None
    penalty: float = field(init=False)

    def __post_init__(self) -> None:
        self.penalty = self.settings.kl

    def objective(self, model: Transformer, dtype: torch.dtype, meter: Meter) -> Objective:
        """Clipped policy and value losses, and the loss on pretraining text."""
        return ppo(model, dtype, self.settings, meter)

    def resume(self, records: Records) -> None:
        """With the penalty that follows the last rollout's."""
        if records:
            self.penalty = self._next(records[-1]["kl_coefficient"], records[-1]["kl"])

    def taught(self, batch: Batch, rewards: Tensor, stats: dict[str, float]) -> Batch:
        """With advantages and returns."""
        extra, settings, answered = batch.extra, self.settings, batch.weights > 0
        per_token = token_rewards(rewards.flatten(), extra[OLD] - extra[REFERENCE], answered, self.penalty)
        if settings.whiten == "both":
            per_token = whitened(per_token, answered, keep_mean=True)
        values = extra[VALUE]
        advantages = generalised_advantages(
            per_token, values, answered, settings.discount, settings.smoothing
        )
        returns = advantages + values
        stats["explained_variance"] = explained_variance(values[answered], returns[answered])
        stats["kl_coefficient"] = self.penalty
        self.penalty = self._next(self.penalty, stats["kl"])
        if settings.whiten != "none":
            advantages = whitened(advantages, answered)
        columns = {ADVANTAGE: advantages, RETURN: returns, TEXT: torch.zeros_like(values)}
        return replace(batch, extra={**extra, **columns})

    def completed(self, batch: Batch, step: int) -> Batch:
        """With pieces of the pretraining text, if there is any, as further rows."""
        return batch if self.text is None else self.text.added(batch, step, self.settings)

    def _next(self, penalty: float, kl: float) -> float:
        return adapted_penalty(penalty, kl, self.settings.questions * self.settings.group, self.settings)
