"""GRPO: a policy from rewards of its own samples, compared within their group (Shao et al. 2024,
DeepSeekMath, arXiv:2402.03300)."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.base.errors import CamelidError
from camelid.data.rows.batches import AnyBatch
from camelid.model.transformer import Transformer
from camelid.recipes.align import GRPOSettings
from camelid.train.loop import Objective
from camelid.train.losses import chunked_logprobs
from camelid.train.objectives import read_out

ADVANTAGE, SAMPLED = "advantage", "sampled"
"""Columns of a batch: the advantage of each token, and the log-probability that it was sampled with."""
SMALLEST_SPREAD = 1e-4
"""Added to the spread of rewards that advantages are divided by, as in TRL."""


def advantages(
    rewards: Float[Tensor, "groups samples"], settings: GRPOSettings
) -> Float[Tensor, "groups samples"]:
    """(r - mean r) / std r within each group (section 4.1.2).

    baseline leave_one_out: the mean of the others (RLOO, arXiv:2402.14740). divide_by_spread false: without
    the division, which favours questions that are nearly always or nearly never solved (Dr. GRPO,
    arXiv:2503.20783).
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    if settings.baseline == "leave_one_out":
        centred = centred * (rewards.shape[1] / (rewards.shape[1] - 1))
    if not settings.divide_by_spread:
        return centred
    return centred / (rewards.std(1, keepdim=True) + SMALLEST_SPREAD)


def clipped(
    ratio: Float[Tensor, "*batch"], advantage: Float[Tensor, "*batch"], settings: GRPOSettings
) -> Float[Tensor, "*batch"]:
    """-min(ratio A, clip(ratio, 1 - low, 1 + high) A): equation 3 there without its KL term; with a higher
    upper bound DAPO's (arXiv:2503.14476)."""
    limited = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    return -torch.minimum(ratio * advantage, limited * advantage)


@dataclass
class Meter:
    """The largest difference between the log-probabilities of sampler and trainer since it was last read."""

    differences: list[float] = field(default_factory=list)

    def read(self) -> float:
        """The largest one, which is then forgotten."""
        largest = max(self.differences, default=0.0)
        self.differences.clear()
        return largest


def grpo(model: Transformer, dtype: torch.dtype, settings: GRPOSettings, meter: Meter) -> Objective:
    """The loss summed over the sampled tokens; raises `CamelidError` if trainer and sampler disagree.

    The batch was sampled with the weights that it is trained on, so both must compute the same probabilities.
    """

    def summed_loss(batch: AnyBatch) -> Tensor:
        def loss(hidden: Tensor, weight: Tensor) -> Tensor:
            logprobs = chunked_logprobs(hidden, weight, batch.targets, batch.weights > 0)
            change = logprobs - batch.extra[SAMPLED]
            _check(change.detach().abs().max().item(), settings.largest_difference, meter)
            return (batch.weights * clipped(change.exp(), batch.extra[ADVANTAGE], settings)).sum()

        return read_out(model, batch, loss, dtype)

    return summed_loss


def _check(difference: float, bound: float, meter: Meter) -> None:
    meter.differences.append(difference)
    if not difference <= bound:
        raise CamelidError(
            f"the trainer's log-probabilities differ by up to {difference:.2g} nats from those that the "
            f"tokens were sampled with, and --grpo.largest-difference is {bound:g}; with bfloat16 use "
            "float32 (--training.dtype float32), or raise the bound"
        )
