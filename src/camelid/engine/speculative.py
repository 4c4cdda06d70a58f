"""Speculative decoding: cheap guesses of the next tokens, accepted or refused so that the model's distribution stays exact.

Leviathan et al. 2022 (arXiv:2211.17192), algorithm 1: a token x guessed with probability q(x) is taken with probability
min(1, p(x) / q(x)); at the first refusal the token is drawn from the positive part of p - q, normalised; where all
are taken, one more is drawn from p. Both are the distributions after penalties, temperature and filters.
"""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
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
"""Steps without a guess, at most, after guesses that were all refused: what is looked up costs little, a draft much."""


@dataclass(frozen=True)
class Proposal:
    """Guessed tokens, and the distribution that each was drawn from: [guesses, vocab], None where it was certain."""

    tokens: tuple[int, ...]
    probabilities: Float[ndarray, "guesses vocab"] | None


class Pace:
    """How many tokens of one text are guessed at a time: at most `most`, fewer after refusals.

    After three refusals in a row there is none for 4 steps, then 8, ... up to `longest_rest`. All of it follows from the
    text alone, so that a seed says the same however fast and beside whatever it is computed. Only a text that was
    preempted may go on otherwise at a temperature above 0: the step that reads it again has no guesses, and which draws
    a token takes depends on what was guessed. The distribution of the text stays the same.
    """

    def __init__(self, most: int, longest_rest: int) -> None:
        self.most = self.size = most
        self.longest_rest = longest_rest
        self.refused = self.rest = 0

    def guesses(self) -> int:
        """Tokens to guess at this step."""
        if self.rest:
            self.rest -= 1
            return 0
        return self.size

    def learn(self, proposed: int, taken: int) -> None:
        """Takes the outcome of a guess into account."""
        if taken:
            self.refused = 0
            self.size = min(self.most, max(self.size, 2 * proposed) if taken == proposed else taken + 1)
            return
        self.refused += 1
        self.size = max(1, self.size // 2)
        if self.refused > 2:
            self.rest = min(self.longest_rest, 2 ** (self.refused - 1))


class Proposer(ABC):
    """What guesses, at most `guesses` tokens at a time, at the `Pace` of each text.

    It counts how many were taken, and the seconds of the steps with guesses.
    """

    def __init__(self, guesses: int, longest_rest: int) -> None:
        if guesses < 1:
            raise WrongCall(f"guesses is {guesses}; at least 1 token is guessed at a time")
        self.guesses, self.longest_rest = guesses, longest_rest
        # A text that gives its blocks back and starts again later goes on at its pace.
        self._paces: WeakKeyDictionary[Generation, Pace] = WeakKeyDictionary()
        self.proposed = self.taken = self.rounds = 0
        self.seconds = 0.0

    def pace(self, generation: Generation) -> Pace:
        """That of a text."""
        return self._paces.setdefault(generation, Pace(self.guesses, self.longest_rest))

    def report(self, generation: Generation, proposed: int, taken: int) -> None:
        """Counts one round."""
        self.pace(generation).learn(proposed, taken)
        self.proposed += proposed
        self.taken += taken
        self.rounds += 1

    @property
    def acceptance(self) -> float:
        """The share of guesses that were taken."""
        return self.taken / max(1, self.proposed)

    @property
    def tokens_a_step(self) -> float:
        """Tokens that a step of the model gave where there was a guess; 1 without any."""
        return 1 + self.taken / max(1, self.rounds)

    def speed_up(self, plain_step: float) -> float:
        """How many times as fast one text came, where guesses were made, as in steps of `plain_step` seconds a token."""
        return self.tokens_a_step * plain_step * self.rounds / max(self.seconds, 1e-9)

    @abstractmethod
    def propose(self, generations: Sequence[Generation]) -> list[Proposal]:
        """A proposal for what follows each."""

    @abstractmethod
    def forget(self, generation: Generation) -> None:
        """A generation has ended or starts again."""


class PromptLookup(Proposer):
    """Guesses that what followed the last tokens when they stood there before follows again; no model is asked.

    longest: tokens that are looked for at most, down to one.
    """

    def __init__(self, guesses: int = 8, longest: int = 3) -> None:
        super().__init__(guesses, LOOKUP_REST)
        self.longest = longest

    def propose(self, generations: Sequence[Generation]) -> list[Proposal]:
        """See `Proposer.propose`."""
        return [Proposal(self._found(each), None) for each in generations]

    def forget(self, generation: Generation) -> None:
        """See `Proposer.forget`: nothing is kept."""

    def _found(self, generation: Generation) -> tuple[int, ...]:
        room = min(self.pace(generation).guesses(), generation.limit - len(generation.tokens) - 1)
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
    """Guesses what a smaller model of the same vocabulary would say, drawn as the generation draws.

    vocab_size: of the model that it guesses for, by default the draft's own. The two may be padded differently beyond
    the tokens that they share.
    """

    def __init__(self, decoder: Decoder, guesses: int = 4, vocab_size: int | None = None) -> None:
        super().__init__(guesses, DRAFT_REST)
        self.decoder, self.vocab_size = decoder, vocab_size or decoder.spec.vocab_size
        self._sequences: dict[Generation, CachedSequence] = {}

    def propose(self, generations: Sequence[Generation]) -> list[Proposal]:
        """See `Proposer.propose`; the drafts of all generations are computed together."""
        rooms = [self._room(each) for each in generations]
        guessed: list[list[int]] = [[] for _ in generations]
        drafted_from: list[list[ndarray]] = [[] for _ in generations]
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
                    drafted = generation.probabilities(self._as_the_models(logits), guessed[index])
                    token = generation.draw(drafted).token
                    drafted_from[index].append(drafted)
                elif token >= self.vocab_size:
                    token = int(self._as_the_models(logits).argmax())
                guessed[index].append(token)
                rests[index] = [token]
        return [
            Proposal(tuple(tokens), np.stack(own) if own else None)
            for tokens, own in zip(guessed, drafted_from, strict=True)
        ]

    def forget(self, generation: Generation) -> None:
        """See `Proposer.forget`."""
        if sequence := self._sequences.pop(generation, None):
            sequence.release()

    def _leave(self, generation: Generation) -> None:
        """Drafts nothing more for a text after which the draft's logits are not finite."""
        self.pace(generation).size = self.pace(generation).most = 0
        warnings.warn(f"one answer goes on without draft tokens: in the draft, {NOT_FINITE}", stacklevel=2)

    def _room(self, generation: Generation) -> int:
        """Guesses that answer and context of the draft have room for."""
        known, text = self.decoder.spec.vocab_size, (*generation.prompt, *generation.tokens)
        if known < self.vocab_size and max(text) >= known:
            return 0
        room = min(
            generation.limit - len(generation.tokens) - 1, self.decoder.spec.context_length - len(text)
        )
        return max(0, min(self.pace(generation).guesses(), room))

    def _as_the_models(self, logits: Float[Tensor, " drafts"]) -> Float[ndarray, " vocab"]:
        """The draft's logits over the model's vocabulary; what the draft does not have is never guessed."""
        own = logits[: self.vocab_size].cpu().numpy()
        return np.pad(own, (0, self.vocab_size - len(own)), constant_values=-np.inf)

    def _has_room(self, extension: Extension) -> bool:
        """Takes the blocks that an extension needs; where the draft's cache is full, a text goes without guesses."""
        try:
            self.decoder.reserve(extension)
        except NoBlocksError:
            return False
        return True

    def _catch_up(self, generation: Generation) -> Sequence[int]:
        """What the draft has not read of a text; guesses that were refused are forgotten."""
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
    """The tokens that a generation says of a proposal, and the one that the model adds.

    logits: after the last token and after each guess; greedy: their largest, each asked for before the row is used, so
    that it may refuse the row. Log-probabilities are those of the model's
    own distribution, which is that of a token emitted, guessed or not. A token must be accepted by the generation before
    the next one is asked for.
    """
    if generation.is_greedy:
        for index, token in enumerate(greedy):
            yield Draw(token, 0.0)
            if index == len(proposal.tokens) or proposal.tokens[index] != token:
                return
    for index, guess in enumerate(proposal.tokens):
        next(greedy)
        target = generation.probabilities(logits[index].cpu().numpy())
        if proposal.probabilities is None:
            guessed = np.zeros_like(target)
            guessed[guess] = 1.0
        else:
            guessed = proposal.probabilities[index]
        if generation.uniform() * guessed[guess] < target[guess]:
            yield Draw(guess, math.log(target[guess]))
            continue
        token = generation.draw(np.maximum(target - guessed, 0.0)).token
        yield Draw(token, math.log(target[token]))
        return
    yield generation.choose(logits[len(proposal.tokens)], next(greedy))
