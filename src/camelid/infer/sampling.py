"""From logits to a token: four filters, each a pure function, and one draw."""

import torch
from jaxtyping import Float
from torch import Tensor

from camelid.lm import Sampling

Logits = Float[Tensor, " vocab"]


def tempered(logits: Logits, temperature: float) -> Logits:
    """Logits of the distribution sharpened (below 1) or flattened (above 1) by `temperature` > 0."""
    return logits / temperature


def keep_top_k(logits: Logits, k: int) -> Logits:
    """-inf outside the k largest (ties with the k-th stay)."""
    kth = logits.topk(min(k, len(logits))).values[-1]
    return logits.masked_fill(logits < kth, -torch.inf)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """-inf outside the smallest set of largest ones whose probabilities reach p (arXiv:1904.09751, section 3.1)."""
    ordered, indices = logits.sort(descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    outside = probabilities.cumsum(-1) - probabilities >= p
    return logits.masked_fill(torch.zeros_like(outside).scatter(0, indices, outside), -torch.inf)


def keep_min_p(logits: Logits, p: float) -> Logits:
    """-inf where the probability is below p times the highest one (arXiv:2407.01082, section 3)."""
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < p * probabilities.max(), -torch.inf)


def filtered(logits: Logits, sampling: Sampling) -> Logits:
    """Logits of the distribution that `sampling` draws from; its temperature must be above 0."""
    logits = tempered(logits.float(), sampling.temperature)
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p is not None:
        logits = keep_min_p(logits, sampling.min_p)
    return logits


def choose(logits: Logits, sampling: Sampling, uniform: float) -> int:
    """The token whose slice of the cumulative distribution holds `uniform` in [0, 1); at temperature 0, the largest."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    cumulative = filtered(logits, sampling).double().softmax(-1).cumsum(-1)
    return int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
