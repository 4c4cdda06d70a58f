"""From logits to a token: penalties, four filters, each a pure function, and one draw.

They take one row of logits in numpy and use a single core, so that they do not wake threads between a model's
steps.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from camelid.base.errors import CamelidError, WrongCall
from camelid.lm.sampling import Sampling

Logits = Float[ndarray, " vocab"]
RUN = 256
"""Tokens whose weights `draw` sums at once; a cumulative sum of the whole vocabulary would take longest."""
CHUNK = 4096
"""Sorted logits whose probabilities `keep_top_p` sums before it looks whether they reach p."""


class Draw(NamedTuple):
    """A token, and how probable it was."""

    token: int
    logprob: float
    """Natural log-probability under the distribution that the token was drawn from; 0 where it was
    certain."""


def apply_penalties(
    logits: Logits, sampling: Sampling, prompt: Sequence[int], generated: Sequence[int]
) -> Logits:
    """Logits after the penalties for tokens of prompt and completion, and the bias."""
    if not sampling.changes_logits:
        return logits
    changed = logits.copy()
    # What overflows is refused by `check_changed`.
    if sampling.repetition_penalty != 1:
        present = np.unique([*prompt, *generated])
        before, factor = changed[present], np.float32(sampling.repetition_penalty)
        with np.errstate(over="ignore"):
            changed[present] = np.where(before > 0, before / factor, before * factor)
    if generated:
        tokens, counts = np.unique(generated, return_counts=True)
        penalty = sampling.presence_penalty + sampling.frequency_penalty * counts
        changed[tokens] -= penalty.astype(np.float32)
    for token, bias in dict(sampling.logit_bias).items():
        changed[token] += np.float32(bias)
    return changed


def check_changed(logits: Logits, sampling: Sampling) -> None:
    """Raises an error unless the largest of finite logits is finite after constraint, penalties and bias.

    The model's own logits are checked before, see `camelid.engine.decoder.check_finite`.
    """
    highest = logits.max()
    if math.isfinite(highest):
        return
    allowed = " that regex or json_schema allows here" if sampling.is_constrained else ""
    if highest != -math.inf:
        raise WrongCall(
            "penalties and logit_bias raise the logits beyond the range of float32; choose milder ones, "
            "such as a repetition_penalty from 1 to 2"
        )
    if sampling.logit_bias:
        raise WrongCall(f"logit_bias forbids every token{allowed}")
    raise CamelidError(f"the model gives every token{allowed} a logit of -inf")


def apply_temperature(logits: Logits, temperature: float) -> Logits:
    """Logits of the distribution sharpened (below 1) or flattened (above 1) by `temperature` > 0."""
    if temperature == 1:
        return logits
    divisor, highest = np.float32(temperature), logits.max()
    with np.errstate(over="ignore"):
        if not np.isfinite(highest / divisor):  # only differences matter, so the largest logit may become 0
            logits = logits - highest
        return logits / divisor


def keep_top_k(logits: Logits, k: int) -> Logits:
    """-inf outside the k largest (ties with the k-th stay)."""
    if k >= len(logits):
        return logits
    kth = np.partition(logits, -k)[-k]
    return _keep(logits, logits >= kth)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """-inf outside the smallest set of largest ones whose probabilities reach p (arXiv:1904.09751, section
    3.1).

    Equal logits are kept in the order of their indices. Only values are sorted, which takes a fraction of the
    time of sorting indices, and probabilities are summed no further than p.
    """
    highest = np.float64(logits.max())
    total = _exponentials(logits, highest).sum()
    falling, kept, reached = np.sort(logits)[::-1], 0, 0.0
    for begin in range(0, len(falling), CHUNK):
        chunk = falling[begin : begin + CHUNK]
        shares = _exponentials(chunk, highest) / total
        sums = np.cumsum(np.append(reached, shares))
        inside = int(np.count_nonzero(sums[1:] - shares < p))
        kept, reached = kept + inside, float(sums[-1])
        if inside < len(chunk):
            break
    least = falling[kept - 1]
    inside_set = logits >= least
    if surplus := int(np.count_nonzero(inside_set)) - kept:
        inside_set[np.flatnonzero(logits == least)[-surplus:]] = False
    return _keep(logits, inside_set)


def keep_min_p(logits: Logits, p: float) -> Logits:
    """-inf where the probability is below p times the highest one (arXiv:2407.01082, section 3)."""
    shares = probabilities(logits)
    return _keep(logits, shares >= p * shares.max())


def filter_logits(logits: Logits, sampling: Sampling) -> Logits:
    """Logits of the distribution that `sampling` draws from; its temperature must be above 0."""
    logits = apply_temperature(logits, sampling.temperature)
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p is not None:
        logits = keep_min_p(logits, sampling.min_p)
    return logits


def exponentials(logits: Logits) -> Logits:
    """The softmax before it is divided by its sum, in the logits' precision: weights to draw by."""
    shifted: Logits = logits - logits.max()
    weights: Logits = np.exp(shifted, out=shifted)
    return weights


def probabilities(logits: Logits) -> Logits:
    """The softmax, in float64."""
    shares = exponentials(logits.astype(np.float64))
    shares /= shares.sum()
    return shares


def sampling_probabilities(logits: Logits, sampling: Sampling) -> Logits:
    """The distribution that `sampling` draws from; at temperature 0 all of it on the largest logit."""
    if sampling.temperature == 0:
        certain = np.zeros(len(logits))
        certain[logits.argmax()] = 1.0
        return certain
    return probabilities(filter_logits(logits, sampling))


def draw(weights: Logits, uniform: float) -> Draw:
    """The token whose slice of the cumulative weights holds `uniform` in [0, 1); a two-level search: run,
    then token."""
    whole = len(weights) // RUN * RUN
    sums = np.append(weights[:whole].reshape(-1, RUN).sum(1), weights[whole:].sum())
    ends = sums.cumsum(dtype=np.float64)
    target = uniform * ends[-1]
    # Weights as small as floating point goes let the target round up to all of them together.
    run = int(np.searchsorted(ends, min(target, np.nextafter(ends[-1], 0)), side="right"))
    own = weights[run * RUN : (run + 1) * RUN]
    inside = own.cumsum(dtype=np.float64)
    place = int(np.searchsorted(inside, target - (ends[run - 1] if run else 0.0), side="right"))
    # The two sums are rounded apart: at the end of a run the last token that has any weight is meant.
    place = place if place < len(own) else int(np.flatnonzero(own)[-1])
    return Draw(run * RUN + place, math.log(own[place] / ends[-1]))


def _exponentials(logits: Logits, highest: np.float64) -> Float[ndarray, " vocab"]:
    """exp(logit - highest) in float64."""
    shifted: Float[ndarray, " vocab"] = np.subtract(logits, highest, dtype=np.float64)
    np.exp(shifted, out=shifted)
    return shifted


def _keep(logits: Logits, inside: ndarray) -> Logits:
    return np.where(inside, logits, np.float32(-np.inf))
