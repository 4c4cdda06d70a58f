"""How probable given continuations are after a prompt, read through the engine's cache."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from camelid.engine.blocks import CachedSequence
from camelid.engine.decoder import Predictions
from camelid.lm.interface import Score

if TYPE_CHECKING:
    from camelid.engine.engine import Engine


def scores_after(
    engine: "Engine", context: Sequence[int], continuations: Sequence[Sequence[int]]
) -> list[Score]:
    """The scores of continuations of one context, which is read once."""
    sequence, rest = engine.decoder.begin(context)
    try:
        first = engine.extend(sequence, rest)
        return [_score(engine, sequence, first, each) for each in continuations]
    finally:
        sequence.release()


def _score(engine: "Engine", context: CachedSequence, first: Predictions, target: Sequence[int]) -> Score:
    logprobs, is_greedy = first.logprobs(target[:1])
    if len(target) > 1:
        twin = context.fork(len(context))
        try:
            more = engine.extend(twin, target[:-1], wanted=len(target) - 1)
        finally:
            twin.release()
        others, are_greedy = more.logprobs(target[1:])
        logprobs, is_greedy = torch.cat([logprobs, others]), is_greedy and are_greedy
    return Score(float(logprobs.sum()), len(target), is_greedy, tuple(logprobs.tolist()))
