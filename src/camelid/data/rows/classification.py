"""Classification with a language model, as GPT-1 was fine-tuned (Radford et al. 2018, sections 3.2 and 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camelid.base.errors import WrongCall
from camelid.data.rows.examples import Example, prompted_example

Ids = Sequence[int] | NDArray[np.integer]


@dataclass(frozen=True)
class TaskTokens:
    """The ids that frame an input: start, delimiter between two texts, and extract, behind which the answer stands."""

    start: int
    delimiter: int
    extract: int

    @classmethod
    def after(cls, vocab_size: int) -> "TaskTokens":
        """Three new ids behind a vocabulary of this size, as in GPT-1; the model's embeddings need room for them."""
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

    The answer is the class in words: where GPT-1 puts a new linear layer on the state of the extract token, the
    output layer that the model has says P(y | x). Its targets weigh 1, those inside the input, extract included,
    `lm_weight`: the summed loss is that of L3 = L2 + lambda L1 (equation 5; lambda = 0.5). averaged: `lm_weight` is
    shared by the tokens of the input, as in the released code, where a long text does not outweigh its answer.
    Of two texts without an order (section 3.3, similarity) make two examples, one each way.
    Raises `WrongCall` where there is no text or no answer.
    """
    if not texts or not len(answer):
        raise WrongCall(
            f"{len(texts)} texts and an answer of {len(answer)} tokens; at least one of each is needed"
        )
    given = [tokens.start, *texts[0]]
    for text in texts[1:]:
        given += [tokens.delimiter, *text]
    # The targets of the input: every token behind the start, and extract.
    return prompted_example(
        [*given, tokens.extract], answer, lm_weight / len(given) if averaged else lm_weight
    )
