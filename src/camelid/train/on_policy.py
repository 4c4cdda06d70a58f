"""Batches whose answers the student has written itself: it learns where its own mistakes lead it.

On-policy distillation (GKD, arXiv:2306.13649, algorithm 1): of a share of the updates the answers are sampled
from the student as it is then, and the teacher says what it would have continued them with.
"""

import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import Tensor

from camelid.data.rows.batches import AnyBatch, Batch, collate
from camelid.data.rows.examples import prompted_example
from camelid.data.rows.packing import PackedExamples, Row
from camelid.recipes.distill import DistillSettings

Ids = tuple[int, ...]
Answer = Callable[[Sequence[Ids], int, int], list[Ids]]
"""Sampled answers of the student as it is now: from the ids of prompts, the most tokens of an answer, and a
seed."""


class OnPolicy:
    """Replaces the answers of a batch by the student's own, in `settings.on_policy` of the updates.

    make: gives the function that answers, when it is first needed; teach: adds the teacher's distributions
    to a row. Prompts that leave no room in `context` are left out; a batch without others stays as it is.
    """

    def __init__(
        self,
        make: Callable[[], Answer],
        teach: Callable[[Row], Row],
        settings: DistillSettings,
        context: int,
        pad_id: int,
        seed: int,
    ) -> None:
        self._make, self._teach, self._settings = make, teach, settings
        self._context, self._pad_id, self._seed = context, pad_id, seed
        self._answer: Answer | None = None

    def __call__(self, step: int, batch: AnyBatch) -> AnyBatch:
        chance = random.Random(f"{self._seed}/{step}")
        if chance.random() >= self._settings.on_policy or not isinstance(batch, Batch):
            return batch
        prompts = [prompt for prompt in prompts_of(batch) if len(prompt) < self._context]
        if not prompts:
            return batch
        self._answer = self._answer or self._make()
        answers = self._answer(prompts, self._settings.max_new_tokens, chance.getrandbits(32))
        examples = [
            prompted_example(prompt, answer[: self._context - len(prompt)], 0.0)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        rows = PackedExamples(examples, self._context, pad_id=self._pad_id, digest="")
        return collate([self._teach(rows[index]) for index in range(rows.per_epoch)])


def prompts_of(batch: Batch) -> Iterator[Ids]:
    """The ids before the last trained stretch of each piece: a conversation up to its last answer."""
    for tokens, weights, documents in zip(batch.tokens, batch.weights, batch.documents, strict=True):
        trained = weights.numpy() > 0
        for document in documents.unique().tolist():
            own = np.flatnonzero(documents.numpy() == document)
            places = own[trained[own]]
            if len(places):
                first = places[np.flatnonzero(np.diff(places, prepend=-2) > 1)[-1]]
                yield _ids(tokens[own[0] : first + 1])


def _ids(tokens: Tensor) -> Ids:
    return tuple(tokens.tolist())
