"""Which prompts leave room for the longest answer, measured before anything is trained."""

import logging
from collections.abc import Sequence
from pathlib import Path

from camelid.align.questions import Asked
from camelid.base.errors import CamelidError
from camelid.base.progress import track
from camelid.engine.encoding import encode_prompt
from camelid.engine.reward_model import RewardModel
from camelid.evals.rewards import ModelReward, Reward
from camelid.formats.hugging_face.checkpoint import read_spec
from camelid.recipes.align import AlignRecipe
from camelid.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

SHOWN_FROM = 1000
"""Prompts from which their measuring is shown."""


def fitting(
    questions: Sequence[Asked], recipe: AlignRecipe, base: Path, tokenizer: Tokenizer, reward: Reward | None
) -> list[Asked]:
    """The questions that leave room for `max_new_tokens` in the policy's context and in a reward model's.

    A reward model of another tokenizer may need more tokens for an answer than the policy; then this is an
    estimate. Raises `CamelidError` for a question that is too long, unless these are to be dropped, and if
    none is left.
    """
    spec, rater = read_spec(base), reward.model if isinstance(reward, ModelReward) else None
    kept, first = list[Asked](), ""
    for each in track(questions, "measuring prompts", show=len(questions) > SHOWN_FROM):
        most = each.sampling.max_new_tokens
        problem = _problem(
            len(encode_prompt(tokenizer, spec, each.prompt)), most, spec.context_length, "model"
        )
        if rater is not None:
            problem = problem or _problem(_read_by(rater, each), most, rater.context, "reward model")
        if problem and recipe.too_long == "error":
            raise CamelidError(f"{each.where}: {problem}; lower --max-new-tokens, or give --too-long drop")
        if problem:
            first = first or f"{each.where}: {problem}"
        else:
            kept.append(each)
    if first:
        logger.warning(
            f"{len(questions) - len(kept):,} of {len(questions):,} prompts dropped; the first: {first}"
        )
    if not kept:
        raise CamelidError(f"all {len(questions):,} prompts are too long; the first: {first}")
    return kept


def _problem(tokens: int, most: int, context: float, whose: str) -> str:
    """What is wrong with a prompt of so many tokens; empty if nothing is."""
    if tokens + most <= context:
        return ""
    return f"{tokens} tokens and an answer of up to {most} exceed the {whose}'s context of {context}"


def _read_by(rater: RewardModel, asked: Asked) -> int:
    """Tokens that a reward model reads of an empty answer, the end of its turn included."""
    return len(rater.encode(asked.sample("").conversation))
