"""A mixture of conversations: what is taken of each source, and how often.

Without weights every source is as frequent as its rows, and all are packed together. With weights each source
is packed by itself, and `MixedRows` interleaves them in these shares. Either way a row is a function of data,
seed and index only.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from camelid.base.errors import CamelidError
from camelid.data.rows.examples import ConversationExamples, highest_held_out
from camelid.data.rows.holdout import uniform
from camelid.data.rows.packing import MixedRows, PackedExamples, Rows
from camelid.recipes.data import Source
from camelid.recipes.tune import TuneRecipe
from camelid.text.tokenizer import Tokenizer

Read = Callable[[Source], ConversationExamples]
"""Reads a source into examples, at most its cap."""


@dataclass(frozen=True)
class Part:
    """One source of a mixture: its training examples, and those held out."""

    source: Source
    train: ConversationExamples
    held_out: ConversationExamples
    dropped: int
    cut: int

    def counts(self, share: float) -> dict[str, Any]:
        """What is recorded of the source; share: of the rows of tokens, or of tokens without weights."""
        weights = [example.weights for example in self.train.examples]
        return {
            "path": str(self.source.path),
            "rows": len(self.train.examples),
            "held_out": len(self.held_out.examples),
            "too_long": self.dropped,
            "cut": self.cut,
            "repeat": self.source.repeat,
            "weight": self.source.weight,
            "tokens": sum(map(len, weights)),
            "trained_tokens": sum(int((each > 0).sum()) for each in weights),
            "share": round(share, 4),
        }


def read_parts(sources: Sequence[Source], read: Read, held_out: float) -> list[Part]:
    """Each source, read and divided into training and held-out examples.

    held_out: about this share of each source, at least one row of all. Raises `CamelidError` if a source has
    no rows to train on.
    """
    parts, read_sources = list[Part](), [read(source) for source in sources]
    highest = highest_held_out((draw for whole in read_sources for draw in whole.draws), held_out)
    for number, (source, whole) in enumerate(zip(sources, read_sources, strict=True)):
        chosen = [draw <= highest for draw in whole.draws]
        train, validation = whole.part([not one for one in chosen]), whole.part(chosen)
        if not train.examples:
            raise CamelidError(
                f"data.sources[{number}] ({source.path}) has no rows left to train on; remove the source, or "
                "lower --data.validation-fraction"
            )
        parts.append(Part(source, train, validation, len(whole.dropped), len(whole.cut)))
    return parts


def mixed_rows(parts: Sequence[Part], recipe: TuneRecipe, tokenizer: Tokenizer) -> Rows:
    """The rows of a mixture."""

    def packed(chosen: Sequence[Part]) -> PackedExamples:
        examples = joined([part.train for part in chosen for _ in range(part.source.repeat)])
        pad = 0 if tokenizer.pad_id is None else tokenizer.pad_id
        context = recipe.training.context_length
        return PackedExamples(examples.examples, context, recipe.seed, pad_id=pad, digest=examples.digest)

    if parts[0].source.weight is None:
        return packed(parts)
    names = [f"{number} {part.source.path}" for number, part in enumerate(parts)]
    shares = dict(zip(names, map(_weight, parts), strict=True))
    return MixedRows({name: packed([part]) for name, part in zip(names, parts, strict=True)}, shares)


def source_counts(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """What is recorded of each source, in their order."""
    total = sum(map(_weight, parts))
    return [part.counts(_weight(part) / total) for part in parts]


def joined(made: Iterable[ConversationExamples]) -> ConversationExamples:
    """The examples of several sources, one after the other, without the lists."""
    whole = ConversationExamples()
    for each in made:
        whole.examples += each.examples
        whole.places += each.places
        whole.draws += each.draws
    return whole


def drawn(rows: Iterable[tuple[Any, str]], most: int | None, seed: int) -> Iterator[tuple[Any, str]]:
    """At most this many of the (row, location) pairs, drawn with the seed, in their order.

    Pairs of one location, such as a good and a bad answer, are drawn one after the other. A draw depends on
    how many locations came before, not on the file's name or folder. Memory grows with `most`, not with the
    rows.
    """
    if most is None:
        yield from rows
        return
    places = enumerate(groupby(rows, key=itemgetter(1)))
    draws = ((uniform(f"{seed} {place}"), pair) for place, (_, pairs) in places for pair in pairs)
    keyed = ((draw, number, pair) for number, (draw, pair) in enumerate(draws))
    chosen = heapq.nsmallest(most, keyed, key=itemgetter(0, 1))
    for _, _, pair in sorted(chosen, key=itemgetter(1)):
        yield pair


def _weight(part: Part) -> float:
    """The share of a source: its weight for each copy, without weights the tokens of an epoch."""
    if part.source.weight is not None:
        return part.source.weight * part.source.repeat
    return float(sum(map(len, part.train.examples)) * part.source.repeat)
