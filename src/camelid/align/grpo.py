"""GRPO: a policy from rewards of its own samples, compared within their group (Shao et al. 2024,
DeepSeekMath, arXiv:2402.03300)."""

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.align.columns import ADVANTAGE, OLD, REFERENCE, SAMPLED
from camelid.align.kl import k3
from camelid.align.meter import Meter
from camelid.align.surrogate import clipped, importance
from camelid.data.rows.batches import AnyBatch, Batch
from camelid.data.rows.shared_prompts import joined
from camelid.model.transformer import Transformer
from camelid.recipes.rollouts import GRPOSettings
from camelid.train.loop import Objective
from camelid.train.losses import chunked_logprobs
from camelid.train.objectives import read_out

SMALLEST_SPREAD = 1e-4
"""Added to the spread of rewards that advantages are divided by, as in TRL."""


def group_advantages(
    rewards: Float[Tensor, "groups samples"], settings: GRPOSettings
) -> Float[Tensor, "groups samples"]:
    """(r - mean r) / std r within each group (section 4.1.2).

    baseline leave_one_out: the mean of the others (RLOO, arXiv:2402.14740). divide_by_spread false: without
    the division, which favours questions that are nearly always or nearly never solved (Dr. GRPO,
    arXiv:2503.20783).
    """
    equal = rewards.amax(1, keepdim=True) == rewards.amin(1, keepdim=True)  # their mean may be rounded
    centred = (rewards - rewards.mean(1, keepdim=True)).masked_fill(equal, 0.0)
    if settings.baseline == "leave_one_out":
        centred = centred * (rewards.shape[1] / (rewards.shape[1] - 1))
    if not settings.divide_by_spread:
        return centred
    return centred / (rewards.std(1, keepdim=True) + SMALLEST_SPREAD)


def grpo(model: Transformer, dtype: torch.dtype, settings: GRPOSettings, meter: Meter) -> Objective:
    """The loss summed over the sampled tokens: the clipped surrogate + beta k3 (equations 3 and 4)."""

    def summed_loss(batch: AnyBatch) -> Tensor:
        assert isinstance(batch, Batch)  # rollouts are rows of a decoder
        batch = joined(batch).batch
        extra, answered = batch.extra, batch.weights > 0

        def loss(hidden: Tensor, weight: Tensor) -> Tensor:
            logprobs = chunked_logprobs(hidden, weight, batch.targets, answered)
            ratio = (logprobs - extra[OLD]).exp()
            policy = clipped(ratio, extra[ADVANTAGE], settings)
            policy = policy * importance(extra[OLD], extra[SAMPLED], settings)
            meter.add(ratio, policy, answered, settings)
            if settings.kl:
                policy = policy + settings.kl * k3(logprobs - extra[REFERENCE])
            return (batch.weights * policy).sum()

        return read_out(model, batch, loss, dtype)

    return summed_loss
