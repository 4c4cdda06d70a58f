"""Comparisons as rows: the better and the worse answer of a pair stand side by side in one row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from camelid.align.columns import REFERENCE
from camelid.align.comparisons import Candidates, read_comparisons
from camelid.base.progress import track
from camelid.data.rows.batches import Batch, collate
from camelid.data.rows.examples import Example
from camelid.data.rows.packing import Row, best_fit_decreasing, digest_of, lay_out, shuffled
from camelid.data.rows.shared_prompts import shared_lengths
from camelid.model.transformer import Transformer
from camelid.recipes.align import AlignRecipe
from camelid.text.tokenizer import Tokenizer
from camelid.train.losses import chunked_logprobs
from camelid.train.objectives import read_out
from camelid.train.parallel import ProcessGroup

Pair = tuple[Example, Example]
"""The better and the worse answer."""


@dataclass(frozen=True)
class PreferencePairs:
    """Pairs to train on, and held-out ones to measure with."""

    train: list[Pair]
    held_out: list[Pair]


def read_pairs(recipe: AlignRecipe, tokenizer: Tokenizer) -> PreferencePairs:
    """Every pair of answers to each prompt; see `read_comparisons`."""
    found = read_comparisons(recipe, tokenizer, apart=True)
    train, held_out = ([_pair(each) for each in part] for part in (found.train, found.held_out))
    return PreferencePairs(train, held_out)


def _pair(candidates: Candidates) -> Pair:
    [pair] = candidates.pairs
    return _weighed(candidates.examples[pair.better]), _weighed(candidates.examples[pair.worse])


def _weighed(example: Example) -> Example:
    """The example with the weight of one half spread over its trained tokens: a pair weighs 1."""
    trained = (example.weights > 0).astype(np.float32)
    return replace(example, weights=trained / np.float32(2 * trained.sum()))


class PackedPairs:
    """Whole pairs packed into rows by best-fit decreasing, in a new seeded order each epoch."""

    def __init__(self, pairs: Sequence[Pair], context: int, seed: int, pad_id: int) -> None:
        self.context, self._pairs, self._pad_id = context, pairs, pad_id
        self._bins = best_fit_decreasing([_length(pair) for pair in pairs], context)
        self.per_epoch = len(self._bins)
        tokens = (example.tokens.tobytes() for pair in pairs for example in pair)
        self.digest = digest_of("pairs with one prompt", context, seed, *tokens)
        self._order = lru_cache(maxsize=2)(lambda epoch: shuffled(len(self._bins), seed, epoch))

    def __getitem__(self, index: int) -> Row:
        epoch, row = divmod(index, self.per_epoch)
        pairs = [self._pairs[at] for at in self._bins[int(self._order(epoch)[row])]]
        return _laid_out(pairs, self.context, self._pad_id)


def _length(pair: Pair) -> int:
    return sum(map(len, pair)) - sum(shared_lengths(pair))


def _laid_out(pairs: Sequence[Pair], context: int, pad_id: int) -> Row:
    shared = [length for pair in pairs for length in shared_lengths(pair)]
    return lay_out([example for pair in pairs for example in pair], context, pad_id, shared)


@torch.no_grad()
def with_reference(
    pairs: Sequence[Pair], model: Transformer, dtype: torch.dtype, context: int, group: ProcessGroup
) -> list[Pair]:
    """The pairs with the log-probability of each target under the model as it is now, computed once.

    Processes share the work; each has the whole model.
    """
    model.eval().to(group.device)
    own = group.own(PackedPairs(pairs, context, 0, 0)._bins)
    placed: dict[int, Pair] = {}
    for members in track(own, "reference log-probabilities", show=group.is_main and len(own) > 100):
        own_pairs = [pairs[at] for at in members]
        batch = collate([_laid_out(own_pairs, sum(map(_length, own_pairs)), 0)])  # without padding
        assert isinstance(batch, Batch)
        found = target_logprobs(model, batch.to(group.device), dtype)[0].cpu().numpy()
        start = 0
        for at, pair in zip(members, own_pairs, strict=True):
            valued = []
            for piece, left_out in zip(pair, shared_lengths(pair), strict=True):
                own_values = found[start : (start := start + len(piece) - left_out)]
                column = np.pad(own_values, (left_out, 0))
                valued.append(replace(piece, extra={**piece.extra, REFERENCE: column}))
            placed[at] = valued[0], valued[1]
    of_all = {at: pair for part in group.collect(placed) for at, pair in part.items()}
    return [of_all[at] for at in range(len(pairs))]


def target_logprobs(model: Transformer, batch: Batch, dtype: torch.dtype) -> torch.Tensor:
    """log p of the trained targets, 0 elsewhere."""
    return read_out(
        model,
        batch,
        lambda hidden, weight: chunked_logprobs(hidden, weight, batch.targets, batch.weights > 0),
        dtype,
    )
