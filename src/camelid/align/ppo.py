"""PPO: a policy from rewards of its own samples, with a value for every token (Schulman et al. 2017,
arXiv:1707.06347; for language models Ziegler et al. 2019, arXiv:1909.08593; InstructGPT, arXiv:2203.02155).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from camelid.align.columns import ADVANTAGE, OLD, RETURN, SAMPLED, TEXT, VALUE
from camelid.align.critic import values_of
from camelid.align.meter import Meter
from camelid.align.surrogate import clipped, importance
from camelid.data.rows.batches import AnyBatch, Batch
from camelid.data.rows.shared_prompts import joined
from camelid.model.transformer import Transformer
from camelid.recipes.rollouts import PPOSettings
from camelid.train.loop import Objective
from camelid.train.losses import chunked_logprobs
from camelid.train.objectives import read_out

Answers = Float[Tensor, "answers time"]
Mask = Bool[Tensor, "answers time"]
LARGEST_CHANGE = 0.2
"""Of the adaptive penalty's error, as a share of the target."""


def token_rewards(
    scores: Float[Tensor, " answers"], log_ratio: Answers, answered: Mask, penalty: float
) -> Answers:
    """-beta (log p - log q) on every token of the answer, and the score on its last one (InstructGPT,
    equation 2, per token)."""
    rewards = -penalty * log_ratio * answered
    places = torch.arange(answered.shape[1]).expand_as(answered)
    last = (places * answered).argmax(1)
    return rewards.scatter_add(1, last[:, None], scores[:, None])


def whitened(values: Answers, answered: Mask, *, keep_mean: bool = False) -> Answers:
    """(x - mean) / sqrt(variance + 1e-8) over all answered tokens; keep_mean: with the mean added again."""
    count = answered.sum()
    mean = (values * answered).sum() / count
    variance = ((values - mean).square() * answered).sum() / count
    scaled = (values - mean) * (variance + 1e-8).rsqrt()
    return (scaled + mean if keep_mean else scaled) * answered


def generalised_advantages(
    rewards: Answers, values: Answers, answered: Mask, discount: float, smoothing: float
) -> Answers:
    """A_t = delta_t + gamma lambda A_t+1 with delta_t = r_t + gamma V_t+1 - V_t (arXiv:1506.02438, eq. 16).

    Nothing follows the last token of an answer, also where it was cut. values: 0 outside answers.
    """
    advantages = torch.zeros_like(rewards)
    following = after = torch.zeros_like(rewards[:, 0])
    for place in reversed(range(rewards.shape[1])):
        delta = rewards[:, place] + discount * following - values[:, place]
        after = (delta + discount * smoothing * after) * answered[:, place]
        advantages[:, place], following = after, values[:, place]
    return advantages


def value_losses(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """max((V - R)^2, (clip(V, V_old +- c) - R)^2) / 2: no credit for moving further than c."""
    limited = old + (values - old).clamp(-clip, clip)
    return torch.maximum((values - returns).square(), (limited - returns).square()) / 2


def adapted_penalty(penalty: float, kl: float, answers: int, settings: PPOSettings) -> float:
    """beta (1 + clip(KL / target - 1, +-0.2) n / horizon) after n answers (Ziegler et al., section 2.2)."""
    if settings.kl_target is None:
        return penalty
    error = min(max(kl / settings.kl_target - 1, -LARGEST_CHANGE), LARGEST_CHANGE)
    return penalty * (1 + error * answers / settings.kl_horizon)


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - var(R - V) / var(R): 1 is a perfect value, 0 no better than a constant, below 0 worse."""
    spread = returns.var(correction=0)
    return 1 - float((returns - values).var(correction=0) / spread) if spread > 0 else 0.0


def ppo(model: Transformer, dtype: torch.dtype, settings: PPOSettings, meter: Meter) -> Objective:
    """The loss summed over tokens: policy + c value loss, and on pretraining text that of a language model.

    A token's weight in the batch is that of its loss; `PretrainingText` weighs text against answers.
    """

    def summed_loss(batch: AnyBatch) -> Tensor:
        assert isinstance(batch, Batch)  # rollouts are rows of a decoder
        batch = joined(batch).batch
        extra, trained = batch.extra, batch.weights > 0
        answered = trained & (extra[TEXT] == 0)

        def loss(hidden: Tensor, weight: Tensor) -> Tensor:
            logprobs = chunked_logprobs(hidden, weight, batch.targets, trained)
            values = values_of(model, hidden)
            ratio = (logprobs - extra[OLD]).exp()
            policy = clipped(ratio, extra[ADVANTAGE], settings) * importance(
                extra[OLD], extra[SAMPLED], settings
            )
            value = value_losses(values, extra[VALUE], extra[RETURN], settings.value_clip)
            meter.add(ratio, policy, answered, settings)
            meter.add_values(values, extra[VALUE], value, answered, settings.value_clip)
            of_answers = policy + settings.value_weight * value
            return (batch.weights * torch.where(answered, of_answers, -logprobs)).sum()

        return read_out(model, batch, loss, dtype)

    return summed_loss
