"""Comparisons as rows: the better and the worse answer of a pair stand side by side in one row."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
import torch

from camelid.align.dpo import REFERENCE
from camelid.base.errors import CamelidError
from camelid.base.progress import track
from camelid.data.read.comparisons import Quality
from camelid.data.read.conversations import Conversations
from camelid.data.rows.batches import Batch, collate
from camelid.data.rows.examples import Example, conversation_example
from camelid.data.rows.holdout import uniform
from camelid.data.rows.packing import Row, best_fit_decreasing, digest_of, lay_out, shuffled
from camelid.model.transformer import Transformer
from camelid.recipes.align import AlignRecipe
from camelid.text.conversation import Conversation
from camelid.text.tokenizer import Tokenizer
from camelid.train.losses import chunked_logprobs
from camelid.train.objectives import read_out

logger = logging.getLogger(__name__)

Pair = tuple[Example, Example]
"""The better and the worse answer."""


@dataclass(frozen=True)
class Comparisons:
    """Pairs to train on, and held-out ones to measure with."""

    train: list[Pair]
    held_out: list[Pair]


def read_comparisons(recipe: AlignRecipe, tokenizer: Tokenizer) -> Comparisons:
    """The pairs of all better and worse answers of each row, as tokens; held out by their prompts.

    Ties and rows with only one side make no pair, and are counted. Raises `CamelidError` if no pairs are left
    to train on, and for one that exceeds the context if these are not to be dropped.
    """
    source = Conversations(recipe.comparisons, recipe.skip_bad_rows)
    found, alone, dropped = Comparisons([], []), 0, 0
    for row, where in source.by_row(both=True):
        sides: dict[Quality | None, list[Conversation]] = {"good": [], "bad": []}
        for conversation, quality in row:
            sides.setdefault(quality, []).append(conversation)
        alone += bool(row) and not (sides["good"] and sides["bad"])
        for better, worse in product(sides["good"], sides["bad"]):
            try:
                pair = _pair(tokenizer, better, worse, where)
            except CamelidError as error:
                source.refuse(where, str(error))
                continue
            length = len(pair[0]) + len(pair[1])
            if length > recipe.training.context_length:
                if recipe.too_long == "error":
                    raise CamelidError(
                        f"{where}: the two answers with their prompts have {length} tokens, and "
                        f"training.context_length is {recipe.training.context_length}; raise it, or give "
                        "--too-long drop"
                    )
                dropped += 1
                continue
            asked = [message.content for message in better.messages[:-1]]
            held_out = uniform(str(asked)) < recipe.held_out
            (found.held_out if held_out else found.train).append(pair)
    logger.info(
        f"{source.summary}: {len(found.train):,} pairs, {len(found.held_out):,} held out, "
        f"{dropped:,} too long; {alone:,} rows have only one side"
    )
    if not found.train:
        raise CamelidError("there are no pairs to train on; a row needs a better and a worse answer")
    return found


def _pair(tokenizer: Tokenizer, better: Conversation, worse: Conversation, where: str) -> Pair:
    examples = [conversation_example(tokenizer, side, where) for side in (better, worse)]
    if np.array_equal(examples[0].tokens, examples[1].tokens):
        raise CamelidError("both answers are the same tokens")
    return _weighed(examples[0]), _weighed(examples[1])


def _weighed(example: Example) -> Example:
    """The example with the weight of one half spread over its trained tokens: a pair weighs 1."""
    trained = (example.weights > 0).astype(np.float32)
    return replace(example, weights=trained / np.float32(2 * trained.sum()))


class PackedPairs:
    """Whole pairs packed into rows by best-fit decreasing, in a new seeded order each epoch."""

    def __init__(self, pairs: Sequence[Pair], context: int, seed: int, pad_id: int) -> None:
        self.context, self._pairs, self._pad_id = context, pairs, pad_id
        self._bins = best_fit_decreasing([len(one) + len(other) for one, other in pairs], context)
        self.per_epoch = len(self._bins)
        tokens = (example.tokens.tobytes() for pair in pairs for example in pair)
        self.digest = digest_of("pairs", context, seed, *tokens)
        self._order = lru_cache(maxsize=2)(lambda epoch: shuffled(len(self._bins), seed, epoch))

    def __getitem__(self, index: int) -> Row:
        epoch, row = divmod(index, self.per_epoch)
        pairs = [self._pairs[at] for at in self._bins[int(self._order(epoch)[row])]]
        return lay_out([example for pair in pairs for example in pair], self.context, self._pad_id)


@torch.no_grad()
def with_reference(
    pairs: Sequence[Pair], model: Transformer, dtype: torch.dtype, device: torch.device, context: int
) -> list[Pair]:
    """The pairs with the log-probability of each target under the model as it is now, computed once."""
    model.eval().to(device)
    rows = PackedPairs(pairs, context, 0, 0)
    placed: list[Pair | None] = [None] * len(pairs)
    for members in track(rows._bins, "reference log-probabilities", show=len(rows._bins) > 100):
        pieces = [example for at in members for example in pairs[at]]
        batch = collate([lay_out(pieces, context, 0)]).to(device)
        assert isinstance(batch, Batch)
        found = target_logprobs(model, batch, dtype)[0].cpu().numpy()
        start = 0
        valued = []
        for piece in pieces:
            column = found[start : start + len(piece)]
            valued.append(replace(piece, extra={**piece.extra, REFERENCE: column}))
            start += len(piece)
        for at, one, other in zip(members, valued[::2], valued[1::2], strict=True):
            placed[at] = one, other
    return [pair for pair in placed if pair is not None]


def target_logprobs(model: Transformer, batch: Batch, dtype: torch.dtype) -> torch.Tensor:
    """log p of the trained targets, 0 elsewhere."""
    return read_out(
        model,
        batch,
        lambda hidden, weight: chunked_logprobs(hidden, weight, batch.targets, batch.weights > 0),
        dtype,
    )
