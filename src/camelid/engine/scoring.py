"""How probable given continuations are after a prompt, read through the engine's cache."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from camelid.base.errors import WrongCall
from camelid.engine.blocks import CachedSequence
from camelid.engine.decoder import Predictions
from camelid.lm.interface import Prompt, Score

if TYPE_CHECKING:
    from camelid.engine.engine import Engine


def encode_pair(
    engine: "Engine", prompt: Prompt, continuation: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids of a prompt and of its continuation; raises `WrongCall` where there are too many, or none to score."""
    tokenizer, context = engine.tokenizer, engine.encode(prompt)
    if engine.model.encoder is not None:
        whole = (*context, *tokenizer.encode(continuation))
    elif isinstance(prompt, str):
        whole = engine.encode(prompt + continuation)
        if not prompt and whole[: len(context)] != context:
            # BOS stands for the empty prompt alone: this tokenizer puts none before a text.
            whole = (*context, *whole)
        # Where a token of the whole spans the border and leaves nothing, the continuation is spelt by itself.
        if len(whole) <= len(context):
            whole = (*context, *tokenizer.encode(continuation, continues=True))
    else:
        whole = (*context, *tokenizer.encode(continuation, continues=tokenizer.goes_on(context)))
    if len(whole) <= len(context):
        raise WrongCall(f"the continuation {continuation!r} adds no token to its prompt")
    if (excess := len(whole) - engine.context_length) > 0 and engine.model.encoder is None:
        raise WrongCall(
            f"prompt and continuation have {len(whole)} tokens and the context holds {engine.context_length}: "
            f"{excess} too many"
        )
    return whole[: len(context)], whole[len(context) :]


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
