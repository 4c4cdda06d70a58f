"""The clipped surrogate that PPO and GRPO share, and the weight of tokens whose sampler differs."""

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.recipes.rollouts import RolloutSettings

Tokens = Float[Tensor, "*batch"]


def clipped(ratio: Tokens, advantage: Tokens, settings: RolloutSettings) -> Tokens:
    """-min(ratio A, clip(ratio, 1 - low, 1 + high) A) (PPO, arXiv:1707.06347, equation 7); with a higher
    upper bound DAPO's (arXiv:2503.14476)."""
    limited = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    return -torch.minimum(ratio * advantage, limited * advantage)


def importance(old: Tokens, sampled: Tokens, settings: RolloutSettings) -> Tokens:
    """min(p_trainer / p_sampler, cap), or 1 without a cap (Yao et al. 2025, truncated importance sampling).

    It corrects for a sampler that computes other probabilities than the trainer.
    """
    if settings.importance_cap is None:
        return torch.ones_like(old)
    return (old - sampled).exp().clamp(max=settings.importance_cap)
