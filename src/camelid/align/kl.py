"""The KL divergence of a policy from its reference: exactly, and estimated from sampled tokens
(Schulman 2020, http://joschu.net/blog/kl-approx.html)."""

from jaxtyping import Float
from torch import Tensor

Tokens = Float[Tensor, "*batch"]


def k1(log_ratio: Tokens) -> Tokens:
    """log p - log q of sampled tokens, where `log_ratio` is that: unbiased, negative at times."""
    return log_ratio


def k2(log_ratio: Tokens) -> Tokens:
    """(log p - log q)^2 / 2: biased, but less variable, and its gradient is that of the divergence."""
    return log_ratio.square() / 2


def k3(log_ratio: Tokens) -> Tokens:
    """q / p - 1 - log (q / p): unbiased and never negative; as a loss in GRPO (arXiv:2402.03300, eq. 4)."""
    return (-log_ratio).expm1() + log_ratio


def exact_kl(policy: Float[Tensor, "*batch vocab"], reference: Float[Tensor, "*batch vocab"]) -> Tokens:
    """sum_v p(v) (log p(v) - log q(v)) from the logits of both, in nats.

    Summed over the tokens of sampled answers it estimates the divergence of whole answers, unbiased.
    """
    log_p, log_q = policy.log_softmax(-1), reference.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def entropy(logits: Float[Tensor, "*batch vocab"]) -> Tokens:
    """-sum_v p(v) log p(v), in nats."""
    logprobs = logits.log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)
