"""Batches whose answers the student has written itself: it learns where its own mistakes lead it.

On-policy distillation (GKD, arXiv:2306.13649, algorithm 1): of a share of the updates the answers are sampled
from the student as it is then, and the teacher says what it would have continued them with.
"""

import copy
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from camelid.data.rows.batches import AnyBatch, collate
from camelid.data.rows.examples import prompted_example
from camelid.data.rows.packing import PackedExamples, Row
from camelid.model.transformer import Transformer
from camelid.recipes.distill import DistillSettings
from camelid.text.tokenizer import Tokenizer
from camelid.train.distillation import TaughtRows
from camelid.train.parallel import ProcessGroup
from camelid.train.sharding import renew

Ids = tuple[int, ...]
Answer = Callable[[Sequence[tuple[int, Ids]], int, int], list[Ids]]
"""Sampled answers of a model as it is now: from the ids of numbered prompts, the most tokens of an answer,
and a seed. An answer depends on the number of its prompt, not on what other prompts there are."""
StudentAnswers = Callable[[Transformer, Tokenizer], Answer]
"""Gives the function that answers from a model; an engine does."""


class OnPolicy:
    """Makes an update's batch of taught rows; in `settings.on_policy` of them with the student's own answers.

    make: is first called when answers are needed. Prompts that leave no room in the context are left out; a
    batch without others stays as it is. Several processes share the prompts, and each answers from a whole
    copy of the student, so this must be made before its weights are sharded.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        make: StudentAnswers,
        rows: TaughtRows,
        settings: DistillSettings,
        group: ProcessGroup,
        seed: int,
    ) -> None:
        self._model, self._tokenizer, self._make = model, tokenizer, make
        self._rows, self._settings, self._group, self._seed = rows, settings, group, seed
        self._sampler = model if group.size == 1 else copy.deepcopy(model)
        self._answer: Answer | None = None

    def __call__(self, step: int, places: Sequence[int]) -> AnyBatch:
        """This process's share of an update's batch, from the places of its rows."""
        chance = random.Random(f"{self._seed}/{step}")
        prompts: list[Ids] = []
        if chance.random() < self._settings.on_policy:
            found = prompts_of(self._rows.untaught(place) for place in places)
            prompts = [prompt for prompt in found if len(prompt) < self._rows.context]
        if not prompts:
            return collate([self._given(place) for place in self._group.slice_of(places)])
        rows = self._answered(prompts, self._answers(prompts, chance.getrandbits(32)))
        return collate([self._rows.teach(row) for row in self._group.slice_of(rows)])

    def _given(self, place: int) -> Row:
        """A row as it stands; the teacher has read it before, unless only the student's answers are trained
        on."""
        if self._settings.on_policy < 1:
            return self._rows[place]
        return self._rows.teach(self._rows.untaught(place))

    def _answers(self, prompts: Sequence[Ids], seed: int) -> list[Ids]:
        if self._sampler is not self._model:
            renew(self._sampler, self._model)
        self._answer = self._answer or self._make(self._sampler, self._tokenizer)
        own = self._group.own([*enumerate(prompts)])
        return self._group.together(self._answer(own, self._settings.max_new_tokens, seed))

    def _answered(self, prompts: Sequence[Ids], answers: Sequence[Ids]) -> list[Row]:
        """The rows of all processes, as many for each: where some are missing, rows without any weight."""
        context = self._rows.context
        examples = [
            prompted_example(prompt, answer[: context - len(prompt)], 0.0)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        packed = PackedExamples(examples, context, pad_id=self._tokenizer.pad_id or 0, digest="")
        rows = [packed[index] for index in range(packed.per_epoch)]
        missing = -len(rows) % self._group.data_size
        return rows + [replace(rows[-1], weights=np.zeros_like(rows[-1].weights))] * missing


def prompts_of(rows: Iterable[Row]) -> Iterator[Ids]:
    """The ids before the last trained stretch of each piece: a conversation up to its last answer."""
    for row in rows:
        for document in np.unique(row.documents):
            own = np.flatnonzero(row.documents == document)
            places = own[row.weights[own] > 0]
            if len(places):
                first = places[np.flatnonzero(np.diff(places, prepend=-2) > 1)[-1]]
                yield _ids(row.tokens[own[0] : first + 1])


def _ids(tokens: NDArray[np.int64]) -> Ids:
    return tuple(tokens.tolist())
