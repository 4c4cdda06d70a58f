"""Contextual calibration: what a prompt prefers without a question is divided out (Zhao et al.,
arXiv:2102.09690, section 5).

A prompt's exemplars favour answers that are frequent or come last among them. Asked about a content-free
text, the model should find all choices equally probable; W = diag(p_cf)⁻¹, b = 0 makes it so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONTENT_FREE = ("N/A", "", "[MASK]")
"""The content-free texts of the paper."""


@dataclass(frozen=True)
class ContentFree:
    """A text in place of the question, with the question's choices."""

    question: str
    choices: Sequence[str] | None
    endings: Sequence[str] = ()
    lettered: bool = False
    contexts: Sequence[str] = ()
    group: str = ""


def content_free_priors(logprobs: Sequence[Sequence[float]]) -> list[float]:
    """log p_cf of each choice: its probability averaged over the content-free texts, then normalised.

    logprobs: for each content-free text, the log-probability of each choice.
    """
    means = [_log_sum(column) - math.log(len(column)) for column in zip(*logprobs, strict=True)]
    total = _log_sum(means)
    return [mean - total for mean in means]


def calibrate(logprobs: Sequence[float], priors: Sequence[float]) -> list[float]:
    """The calibrated probability of each choice: p / p_cf, normalised."""
    ratios = [logprob - prior for logprob, prior in zip(logprobs, priors, strict=True)]
    return probabilities(ratios)


def probabilities(logprobs: Sequence[float]) -> list[float]:
    """The probabilities of choices among each other."""
    total = _log_sum(logprobs)
    return [math.exp(logprob - total) for logprob in logprobs]


def _log_sum(values: Sequence[float]) -> float:
    """log Σ exp(value), without overflow for long choices."""
    highest = max(values)
    if math.isinf(highest):
        return highest
    return highest + math.log(sum(math.exp(value - highest) for value in values))
