"""Speculative decoding: cheap draft tokens, accepted or refused so that the model's distribution stays exact.

Leviathan et al. 2022 (arXiv:2211.17192), algorithm 1: a draft token x with probability q(x) is accepted with
probability min(1, p(x) / q(x)); at the first refusal the token is drawn from the positive part of p - q,
normalised; if all are accepted, one more is drawn from p. Both are the distributions after penalties,
temperature and filters.
"""

import math
import statistics
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from camelid.base.errors import WrongCall
from camelid.engine.blocks import CachedSequence, NoBlocksError
from camelid.engine.decoder import NOT_FINITE, Decoder, Extension
from camelid.engine.generation import Generation
from camelid.engine.sampling import Draw

LOOKUP_REST, DRAFT_REST = 2, 32
"""Most steps without draft tokens after refusals: looking them up costs little, a draft model much."""

PLAIN_STEPS = 9
"""Steps without draft tokens that are timed to measure the speed-up."""


@dataclass(frozen=True)
class Proposal:
    """Draft tokens, and the distribution that each was drawn from; None if they were looked up or greedy."""

    tokens: tuple[int, ...]
    probabilities: Float[ndarray, "draft_tokens vocab"] | None


class Pace:
    """How many tokens of one text are drafted at a time: at most `most`, fewer after refusals.

    After three refusals in a row there is none for 4 steps, then 8, ... up to `longest_rest`. It depends only
    on the text, so that a seed gives the same text at any speed and in any batch. Only a preempted text may
    continue differently at a temperature above 0: the step that reads it again has no draft tokens, and these
    decide which random numbers a token uses. The distribution of the text stays the same.
    """

    def __init__(self, most: int, longest_rest: int) -> None:
        self.most = self.size = most
        self.longest_rest = longest_rest
        self.refused = self.rest = 0

    def draft_tokens(self) -> int:
        """The number of tokens to draft at this step."""
        if self.rest:
            self.rest -= 1
            return 0
        return self.size

    def learn(self, proposed: int, accepted: int) -> None:
        """Adjusts to how many of the proposed tokens were accepted."""
        if accepted:
            self.refused = 0
            self.size = min(self.most, max(self.size, 2 * proposed) if accepted == proposed else accepted + 1)
            return
        self.refused += 1
        self.size = max(1, self.size // 2)
        if self.refused > 2:
            self.rest = min(self.longest_rest, 2 ** (self.refused - 1))


class Proposer(ABC):
    """Proposes at most `draft_tokens` tokens at a time, at the `Pace` of each text.

    It counts how many were accepted, and the seconds of the steps with draft tokens.
    """

    def __init__(self, draft_tokens: int, longest_rest: int) -> None:
        if draft_tokens < 1:
            raise WrongCall(f"draft_tokens is {draft_tokens}; at least 1 token is drafted at a time")
        self.draft_tokens, self.longest_rest = draft_tokens, longest_rest
        # A text that gives its blocks back and starts again later goes on at its pace.
        self._paces: WeakKeyDictionary[Generation, Pace] = WeakKeyDictionary()
        self.proposed = self.accepted = self.rounds = 0
        self.seconds = 0.0

    def pace(self, generation: Generation) -> Pace:
        """That of a text."""
        return self._paces.setdefault(generation, Pace(self.draft_tokens, self.longest_rest))

    def report(self, generation: Generation, proposed: int, accepted: int) -> None:
        """Counts one round."""
        self.pace(generation).learn(proposed, accepted)
        self.proposed += proposed
        self.accepted += accepted
        self.rounds += 1

    @property
    def acceptance(self) -> float:
        """The share of draft tokens that were accepted."""
        return self.accepted / max(1, self.proposed)

    @property
    def tokens_a_step(self) -> float:
        """Mean number of tokens of a step with draft tokens; 1 if there was none."""
        return 1 + self.accepted / max(1, self.rounds)

    def speed_up(self, plain_step: float) -> float:
        """Speed of the steps with draft tokens, relative to steps of `plain_step` seconds a token."""
        return self.tokens_a_step * plain_step * self.rounds / max(self.seconds, 1e-9)

    @abstractmethod
    def propose(self, generations: Sequence[Generation]) -> list[Proposal]:
        """A proposal for what follows each."""

    @abstractmethod
    def forget(self, generation: Generation) -> None:
        """A generation has ended or starts again."""


class PromptLookup(Proposer):
    """Proposes what followed the last tokens at their latest earlier place in the text; no model is asked.

    longest: tokens that are looked for at most, down to one.
    """

    def __init__(self, draft_tokens: int = 8, longest: int = 3) -> None:
        super().__init__(draft_tokens, LOOKUP_REST)
        self.longest = longest

    def propose(self, generations: Sequence[Generation]) -> list[Proposal]:
        return [Proposal(self._found(each), None) for each in generations]

    def forget(self, generation: Generation) -> None:
        """Nothing is kept."""

    def _found(self, generation: Generation) -> tuple[int, ...]:
        room = min(self.pace(generation).draft_tokens(), generation.limit - len(generation.tokens) - 1)
        if room < 1:
            return ()
        text = np.array([*generation.prompt, *generation.tokens])
        for size in range(min(self.longest, len(text) - 1), 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(text[:-1], size)
            [places] = np.nonzero((windows == text[-size:]).all(1))
            if len(places):
                begin = int(places[-1]) + size
                return tuple(int(token) for token in text[begin : begin + room])
        return ()


class DraftModel(Proposer):
    """Proposes tokens of a smaller model of the same vocabulary, drawn as the generation draws.

    vocab_size: of the model that it drafts for, by default the draft's own. The two may be padded differently
    beyond the tokens that they share.
    """

    def __init__(self, decoder: Decoder, draft_tokens: int = 4, vocab_size: int | None = None) -> None:
        super().__init__(draft_tokens, DRAFT_REST)
        self.decoder, self.vocab_size = decoder, vocab_size or decoder.spec.vocab_size
        self._sequences: dict[Generation, CachedSequence] = {}

    def propose(self, generations: Sequence[Generation]) -> list[Proposal]:
        """The drafts of all generations are computed together."""
        rooms = [self._room(each) for each in generations]
        drafted: list[list[int]] = [[] for _ in generations]
        distributions: list[list[ndarray]] = [[] for _ in generations]
        rests = [self._catch_up(each) if room else () for each, room in zip(generations, rooms, strict=True)]
        for round_ in range(max(rooms, default=0)):
            able = [index for index, room in enumerate(rooms) if room > round_]
            extensions = {
                index: Extension(self._sequences[generations[index]], rests[index]) for index in able
            }
            full = [index for index in able if not self._has_room(extensions[index])]
            for index in full:
                rooms[index] = 0
                del extensions[index]
            if not extensions:
                break
            predictions = self.decoder.extend(list(extensions.values()))
            for index, token, logits, log_total in zip(
                extensions,
                predictions.greedy.tolist(),
                predictions.logits,
                predictions.log_total.tolist(),
                strict=True,
            ):
                generation = generations[index]
                if not math.isfinite(log_total):
                    self._leave(generation)
                    rooms[index] = 0
                    continue
                if not generation.is_greedy:
                    distribution = generation.probabilities(self._as_the_models(logits), drafted[index])
                    token = generation.draw(distribution).token
                    distributions[index].append(distribution)
                elif token >= self.vocab_size:
                    token = int(self._as_the_models(logits).argmax())
                drafted[index].append(token)
                rests[index] = [token]
        return [
            Proposal(tuple(tokens), np.stack(own) if own else None)
            for tokens, own in zip(drafted, distributions, strict=True)
        ]

    def forget(self, generation: Generation) -> None:
        if sequence := self._sequences.pop(generation, None):
            sequence.release()

    def _leave(self, generation: Generation) -> None:
        """Drafts nothing more for a text after which the draft's logits are not finite."""
        self.pace(generation).size = self.pace(generation).most = 0
        warnings.warn(f"one answer goes on without draft tokens: in the draft, {NOT_FINITE}", stacklevel=2)

    def _room(self, generation: Generation) -> int:
        """Draft tokens that fit into the answer and into the draft's context."""
        known, text = self.decoder.spec.vocab_size, (*generation.prompt, *generation.tokens)
        if known < self.vocab_size and max(text) >= known:
            return 0
        room = min(
            generation.limit - len(generation.tokens) - 1, self.decoder.spec.context_length - len(text)
        )
        return max(0, min(self.pace(generation).draft_tokens(), room))

    def _as_the_models(self, logits: Float[Tensor, " drafts"]) -> Float[ndarray, " vocab"]:
        """The draft's logits over the model's vocabulary, -inf for tokens that the draft does not have."""
        own = logits[: self.vocab_size].cpu().numpy()
        return np.pad(own, (0, self.vocab_size - len(own)), constant_values=-np.inf)

    def _has_room(self, extension: Extension) -> bool:
        """Takes the blocks that an extension needs; if the draft's cache is full, the text gets no draft
        tokens."""
        try:
            self.decoder.reserve(extension)
        except NoBlocksError:
            return False
        return True

    def _catch_up(self, generation: Generation) -> Sequence[int]:
        """The tokens of a text that the draft has not read; refused draft tokens leave its cache."""
        text = [*generation.prompt, *generation.tokens]
        sequence = self._sequences.get(generation)
        if sequence is None:
            sequence, _ = self.decoder.begin(text)
            self._sequences[generation] = sequence
        known = next(
            (
                index
                for index, pair in enumerate(zip(sequence.tokens, text, strict=False))
                if pair[0] != pair[1]
            ),
            min(len(sequence), len(text)),
        )
        sequence.truncate(min(known, len(text) - 1))
        return text[len(sequence) :]


def accepted_tokens(
    generation: Generation, proposal: Proposal, logits: Tensor, greedy: Iterator[int]
) -> Iterator[Draw]:
    """The accepted tokens of a proposal, and the one that the model adds.

    logits: after the last token and after each draft token; greedy: their largest, each asked for before the
    row is used, so that it may refuse the row. Log-probabilities are those of the model's own distribution,
    which every emitted token follows. The generation must accept a token before the next one is asked for.
    """
    if generation.is_greedy:
        for index, token in enumerate(greedy):
            yield Draw(token, 0.0)
            if index == len(proposal.tokens) or proposal.tokens[index] != token:
                return
    for index, draft_token in enumerate(proposal.tokens):
        next(greedy)
        target = generation.probabilities(logits[index].cpu().numpy())
        if proposal.probabilities is None:
            proposed = np.zeros_like(target)
            proposed[draft_token] = 1.0
        else:
            proposed = proposal.probabilities[index]
        if generation.uniform() * proposed[draft_token] < target[draft_token]:
            yield Draw(draft_token, math.log(target[draft_token]))
            continue
        token = generation.draw(np.maximum(target - proposed, 0.0)).token
        yield Draw(token, math.log(target[token]))
        return
    yield generation.choose(logits[len(proposal.tokens)], next(greedy))


def step_seconds(
    decoder: Decoder, extend: Callable[[CachedSequence, Sequence[int]], object], ids: Sequence[int]
) -> float:
    """Median duration of a few steps without draft tokens after a text; their tokens are dropped."""
    sequence, rest = decoder.begin(ids)
    try:
        extend(sequence, rest)
        times = []
        for _ in range(PLAIN_STEPS):
            began = time.perf_counter()
            decoder.extend([Extension(sequence, ids[-1:])])
            times.append(time.perf_counter() - began)
        return statistics.median(times)
    finally:
        sequence.release()
