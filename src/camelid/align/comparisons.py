"""Comparisons as tokens: the answers to one prompt, and which of them is better than which."""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import NamedTuple

import numpy as np

from camelid.base.errors import CamelidError
from camelid.data.read.conversation_shape import Ranked
from camelid.data.read.conversations import Conversations
from camelid.data.rows.examples import Example, conversation_example
from camelid.data.rows.holdout import uniform
from camelid.data.rows.packing import shuffled
from camelid.data.rows.shared_prompts import shared_lengths
from camelid.recipes.align import AlignRecipe
from camelid.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class Compared(NamedTuple):
    """Two answers by their places, the better one first, and how much better it is rated."""

    better: int
    worse: int
    margin: float


@dataclass(frozen=True)
class Candidates:
    """Answers to one prompt: their tokens, their lengths in characters, and the pairs of them."""

    examples: tuple[Example, ...]
    characters: tuple[int, ...]
    pairs: tuple[Compared, ...]

    def apart(self) -> "list[Candidates]":
        """Each pair by itself."""
        return [self.only([pair]) for pair in self.pairs]

    def only(self, pairs: Sequence[Compared]) -> "Candidates":
        """These pairs, and the answers that occur in them."""
        kept = sorted({place for pair in pairs for place in (pair.better, pair.worse)})
        at = {place: number for number, place in enumerate(kept)}
        return Candidates(
            tuple(self.examples[place] for place in kept),
            tuple(self.characters[place] for place in kept),
            tuple(Compared(at[pair.better], at[pair.worse], pair.margin) for pair in pairs),
        )

    @property
    def length(self) -> int:
        """Tokens of the prompt and of all answers."""
        return sum(len(example) + 1 for example in self.examples) - sum(shared_lengths(self.examples))

    @property
    def longest(self) -> int:
        """Tokens of the longest answer with its prompt."""
        return max((len(example) + 1 for example in self.examples), default=0)


@dataclass(frozen=True)
class Comparisons:
    """What to train on, and what measures; rated: whether margins say how much better an answer is."""

    train: list[Candidates]
    held_out: list[Candidates]
    rated: bool


def read_comparisons(
    recipe: AlignRecipe, tokenizer: Tokenizer, *, apart: bool, longest: float = math.inf
) -> Comparisons:
    """The compared answers of each row, of the first `limit` ones, held out by their prompts.

    apart: every pair by itself. longest: most tokens of an answer with its prompt, the model's context.

    Ties and rows with only one side make no pair, and are counted. Raises `CamelidError` if no pairs are left
    to train on, and for answers that exceed `training.context_length` together if these are not to be
    dropped.
    """
    source, context = Conversations(recipe.comparisons, recipe.skip_bad_rows), recipe.training.context_length
    train, held_out, dropped, alone, rated = list[Candidates](), list[Candidates](), 0, 0, True
    first = ""
    for rankings, where in islice(source.rankings(), recipe.limit):
        for ranked in rankings:
            asked = str([message.content for message in ranked.conversations[0].messages[:-1]])
            try:
                whole = _candidates(tokenizer, ranked, where)
                whole = whole.only(some_pairs(whole.pairs, recipe.pairs_per_prompt, asked))
            except CamelidError as error:
                source.refuse(where, str(error))
                continue
            alone += not whole.pairs
            rated = rated and ranked.rated
            parts = whole.apart() if apart else [whole]
            fitting = [each for each in parts if each.length <= context and each.longest <= longest]
            short = len(whole.pairs) - sum(len(each.pairs) for each in fitting)
            if short:
                problem = f"{where}: {_too_long(whole, context, longest)}"
                if recipe.too_long == "error":
                    raise CamelidError(f"{problem}; raise it, or give --too-long drop")
                first = first or problem
            dropped += short
            part = held_out if uniform(asked) < recipe.held_out else train
            part += [each for each in fitting if each.pairs]
    logger.info(
        f"{source.summary}: {count_pairs(train):,} pairs, {count_pairs(held_out):,} held out, "
        f"{dropped:,} too long; {alone:,} prompts without a better answer"
    )
    if not train:
        why = ["a row needs a better and a worse answer"] if not (held_out or dropped) else []
        why += [f"{count_pairs(held_out):,} are held out; lower --held-out, or give more"] if held_out else []
        why += [f"{dropped:,} are too long, the first: {first}"] if dropped else []
        raise CamelidError(f"there are no pairs to train on: {'; '.join(why)}")
    return Comparisons(train, held_out, rated)


def count_pairs(candidates: Iterable[Candidates]) -> int:
    """The number of pairs."""
    return sum(len(each.pairs) for each in candidates)


def pairs_of(scores: Sequence[float]) -> list[Compared]:
    """All pairs of answers with different scores, and by how much these differ."""
    pairs = []
    for one, other in combinations(range(len(scores)), 2):
        if scores[one] != scores[other]:
            better, worse = (one, other) if scores[one] > scores[other] else (other, one)
            pairs.append(Compared(better, worse, scores[better] - scores[worse]))
    return pairs


def some_pairs(pairs: Sequence[Compared], most: int | None, asked: str) -> list[Compared]:
    """At most so many pairs, drawn by the words of the prompt (StackLLaMA: 10 a question)."""
    if most is None or len(pairs) <= most:
        return [*pairs]
    drawn = shuffled(len(pairs), int(uniform(asked) * 2**32), 0)[:most]
    return [pairs[int(at)] for at in sorted(drawn)]


def _too_long(whole: Candidates, context: int, longest: float) -> str:
    if whole.longest > longest:
        return f"an answer has {whole.longest} tokens with its prompt, and the model's context is {longest}"
    return (
        f"the compared answers have {whole.length} tokens with their prompts, and training.context_length "
        f"is {context}"
    )


def _candidates(tokenizer: Tokenizer, ranked: Ranked, where: str) -> Candidates:
    examples = tuple(conversation_example(tokenizer, each, where) for each in ranked.conversations)
    pairs = pairs_of(ranked.scores)
    for pair in pairs:
        if np.array_equal(examples[pair.better].tokens, examples[pair.worse].tokens):
            raise CamelidError("two answers of different rank are the same tokens")
    characters = tuple(len(each.messages[-1].content or "") for each in ranked.conversations)
    return Candidates(examples, characters, tuple(pairs))
