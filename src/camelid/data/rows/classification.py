"""Classification with a language model, as in GPT-1's fine-tuning (Radford et al. 2018, 3.2 and 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camelid.base.errors import WrongCall
from camelid.data.rows.examples import Example, prompted_example

Ids = Sequence[int] | NDArray[np.integer]


@dataclass(frozen=True)
class TaskTokens:
    """The ids around an input: start, delimiter between two texts, and extract, before the answer."""

    start: int
    delimiter: int
    extract: int

    @classmethod
    def after(cls, vocab_size: int) -> "TaskTokens":
        """Three new ids after a vocabulary of this size, as in GPT-1; the embeddings must include them."""
        return cls(vocab_size, vocab_size + 1, vocab_size + 2)


def classification_example(
    texts: Sequence[Ids],
    answer: Ids,
    tokens: TaskTokens,
    *,
    lm_weight: float = 0.5,
    averaged: bool = False,
) -> Example:
    """`start text extract answer`, or `start text delimiter text extract answer` for two texts.

    The answer is the class in words: GPT-1 adds a linear layer on the extract token's state; here the model's
    own output layer gives P(y | x). Targets in the answer have weight 1, those inside the input (extract
    included) `lm_weight`, so the summed loss is L3 = L2 + lambda L1 (equation 5; lambda = 0.5). averaged:
    divide `lm_weight` by the number of input tokens, as the released code does, so that a long text does not
    outweigh its answer. For two texts without an order (section 3.3, similarity), make two examples, one in
    each order. Raises `WrongCall` if there is no text or no answer.
    """
    if not texts or not len(answer):
        raise WrongCall(
            f"{len(texts)} texts and an answer of {len(answer)} tokens; at least one of each is needed"
        )
    given = [tokens.start, *texts[0]]
    for text in texts[1:]:
        given += [tokens.delimiter, *text]
    # The targets inside the input: every token after start, and extract.
    return prompted_example(
        [*given, tokens.extract], answer, lm_weight / len(given) if averaged else lm_weight
    )
