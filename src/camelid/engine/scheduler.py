"""Which tokens of which requests a step computes (continuous batching: Orca, OSDI 2022)."""

import math
import time
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from camelid.base.errors import CamelidError, WrongCall
from camelid.base.free_memory import as_out_of_memory
from camelid.engine.blocks import CachedSequence, NoBlocksError
from camelid.engine.decoder import Decoder, Extension, Predictions
from camelid.engine.generation import Generation
from camelid.engine.speculative import Proposal, Proposer, accepted_tokens

NO_PROPOSAL = Proposal((), None)
NOT_FINITE = (
    "the model's logits are not finite: its weights or activations overflow in this dtype (--dtype float32?)"
)


@dataclass(eq=False)
class Running:
    """A generation that has blocks. `rest` are the tokens of its prompt, and of what it said, that are not in the cache."""

    generation: Generation
    sequence: CachedSequence
    rest: list[int]
    followers: list[Generation] = field(default_factory=list)
    """Others with the same prompt, which take its blocks over as soon as it is read."""

    @property
    def reads(self) -> bool:
        """Whether the prompt is still being read."""
        return len(self.rest) > 1 or not self.generation.tokens

    @property
    def key(self) -> tuple[int, ...]:
        """See `read_by`."""
        return read_by(self.generation)


Part = tuple[Running, Extension, Proposal]
"""What a step computes for one generation."""


class RowSummary(NamedTuple):
    """What `Predictions` says of one row of logits."""

    greedy: int
    highest: float
    log_total: float


class Scheduler:
    """Requests in, steps out; `step` advances every running generation by a token or a piece of its prompt.

    step_tokens: tokens that one step computes at most, those of running answers first: a long prompt is read in pieces
    while answers go on. Where blocks run out, the youngest generation gives its own back and starts again later,
    with the same result.
    """

    def __init__(
        self, decoder: Decoder, max_batch: int, step_tokens: int, proposer: Proposer | None = None
    ) -> None:
        self.decoder, self.max_batch, self.step_tokens = decoder, max_batch, step_tokens
        self.proposer = proposer
        self.waiting: deque[Generation] = deque()
        self.running: list[Running] = []
        self._failed: list[Generation] = []

    def submit(self, generation: Generation) -> None:
        """Queues a generation; raises `WrongCall` where it was queued before."""
        if generation.submitted:
            raise WrongCall("this request was submitted before; ask for each text with a request of its own")
        generation.submitted = True
        self.waiting.append(generation)

    def cancel(self, generation: Generation) -> None:
        """Ends a generation without a completion and gives its blocks back."""
        generation.cancelled = True
        if generation in self.waiting:
            self.waiting.remove(generation)
        for running in [*self.running]:
            if generation in running.followers:
                running.followers.remove(generation)
            elif running.generation is generation:
                self._stop(running)

    def step(self) -> list[tuple[Generation, str]]:
        """Computes one step; every generation that said something, with its new text, or failed, without.

        One that cannot be computed, as where it alone needs more memory than there is, fails (`Generation.error`); the
        others go on.
        """
        began = time.perf_counter()
        self._admit()
        planned = self._plan()
        try:
            said = self._compute(planned) if planned else []
        except BaseException:
            # Interrupted (Ctrl-C): sequences may hold tokens that no generation knows of, so all are read anew.
            self.give_all_way()
            raise
        if self.proposer and any(proposal.tokens for _, _, proposal in planned):
            self.proposer.seconds += time.perf_counter() - began
        failed, self._failed = self._failed, []
        return [*said, *((generation, "") for generation in failed)]

    def give_way(self) -> bool:
        """The youngest running generation gives its blocks back and starts again later; whether there was one."""
        if not self.running:
            return False
        youngest = self.running[-1]
        self._stop(youngest)
        if not youngest.generation.ended:
            self.waiting.appendleft(youngest.generation)
        return True

    def give_all_way(self) -> None:
        """Every running generation gives its blocks back and starts again."""
        while self.give_way():
            pass

    def _compute(self, planned: Sequence[Part]) -> list[tuple[Generation, str]]:
        try:
            predictions = self.decoder.extend([extension for _, extension, _ in planned])
        except Exception as error:
            if len(planned) == 1:
                self._fail(planned[0][0], error)
                return []
            # Each by itself, to find the one that cannot be computed.
            return [piece for part in planned for piece in self._compute([part])]
        return self._take(planned, predictions)

    def _admit(self) -> None:
        """Starts waiting generations while there are places and blocks, the longest waiting first."""
        if self._places() <= 0:
            return
        for generation in [*self.waiting]:
            key = read_by(generation)
            if leader := next((each for each in self.running if each.reads and each.key == key), None):
                leader.followers.append(generation)
            elif self.running and not self.decoder.pool.available:
                break
            else:
                try:
                    running = self._begun(generation)
                except Exception as error:
                    if self.running and isinstance(error, NoBlocksError):
                        break
                    self._end(generation, error)
                else:
                    if running is None:
                        continue
                    self.running.append(running)
            self.waiting.remove(generation)
            if self._places() <= 0:
                break

    def _begun(self, generation: Generation) -> Running | None:
        """The generation with blocks for all that it reads; None while another computes what it begins with."""
        sequence, rest = self.decoder.begin(generation.prompt, generation.tokens)
        whole = [*sequence.tokens, *rest]
        try:
            if sequence.awaits(whole):
                sequence.release()
                return None
            self.decoder.reserve(Extension(sequence, rest))
        except BaseException:
            sequence.release()
            raise
        sequence.announce(whole)
        return Running(generation, sequence, list(rest))

    def _places(self) -> int:
        return self.max_batch - sum(1 + len(running.followers) for running in self.running)

    def _plan(self) -> list[Part]:
        """What the step computes: a token for every answer, and what proposals add; then prompts up to `step_tokens`."""
        answering = [running for running in self.running if not running.reads]
        proposals = self._propose(answering)
        planned = []
        for running in answering:
            if running not in self.running:
                continue  # it gave way to one before it
            part = self._guessing(running, proposals.get(running, NO_PROPOSAL))
            if self._make_room(running, part[1]):
                planned.append(part)
        planned = [part for part in planned if part[0] in self.running]
        left = max(1, self.step_tokens - sum(len(extension.tokens) for _, extension, _ in planned))
        for running in self.running:
            if not running.reads or left <= 0:
                continue
            piece = running.rest[:left]
            left -= len(piece)
            wanted = 1 if len(piece) == len(running.rest) else 0
            planned.append((running, Extension(running.sequence, piece, wanted), NO_PROPOSAL))
        return planned

    def _propose(self, answering: Sequence[Running]) -> dict[Running, Proposal]:
        if self.proposer is None:
            return {}
        able = [running for running in answering if running.generation.may_speculate]
        try:
            proposals = self.proposer.propose([running.generation for running in able])
        except Exception as error:
            warnings.warn(f"the draft fails, and answers go on without it: {error}", stacklevel=2)
            for running in self.running:
                self.proposer.forget(running.generation)
            self.proposer = None
            return {}
        return dict(zip(able, proposals, strict=True))

    def _guessing(self, running: Running, proposal: Proposal) -> Part:
        """An answer's last token with what is guessed to follow, without it where that needs blocks that are not free."""
        tokens = [*running.rest, *proposal.tokens]
        extension = Extension(running.sequence, tokens, len(tokens))
        if proposal.tokens:
            try:
                self.decoder.reserve(extension)
            except NoBlocksError:
                return self._guessing(running, NO_PROPOSAL)
        return running, extension, proposal

    def _make_room(self, running: Running, extension: Extension) -> bool:
        """Blocks for an answer's next tokens, if need be from the youngest; whether it still runs."""
        while running in self.running:
            try:
                self.decoder.reserve(extension)
                return True
            except NoBlocksError as error:
                if len(self.running) == 1:
                    self._fail(running, error)
                    return False
                self.give_way()
        return False

    def _take(self, planned: Sequence[Part], predictions: Predictions) -> list[tuple[Generation, str]]:
        """Gives the step's predictions to the generations that wait for them; what they said."""
        said: list[tuple[Generation, str]] = []
        logits, *columns = predictions
        summaries = [RowSummary(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        row = 0
        for running, extension, proposal in planned:
            rows = slice(row, row + extension.wanted)
            row += extension.wanted
            if not extension.wanted:
                del running.rest[: len(extension.tokens)]
                continue
            own = logits[rows], summaries[rows]
            read = len(running.sequence) - len(proposal.tokens)
            while running.followers:
                twin = Running(running.followers.pop(0), running.sequence.fork(read), [])
                self.running.append(twin)
                said += self._say(twin, *own, NO_PROPOSAL)
            said += self._say(running, *own, proposal)
        return said

    def _say(
        self,
        running: Running,
        logits: Tensor,
        summaries: Sequence[RowSummary],
        proposal: Proposal,
    ) -> list[tuple[Generation, str]]:
        generation, before = running.generation, len(running.sequence) - len(proposal.tokens)
        kept, said = 0, []
        try:
            greedy = [row.greedy for row in summaries]
            for index, token in enumerate(accepted_tokens(generation, proposal, logits, greedy)):
                row = summaries[index]
                if not math.isfinite(row.log_total):
                    raise CamelidError(NOT_FINITE)
                # On a GPU every look at a logit waits for it.
                logit = row.highest if token == row.greedy else float(logits[index, token])
                piece = generation.accept(token, logit - row.log_total)
                kept = index
                said.append((generation, piece))
                if generation.finish_reason:
                    break
        except Exception as error:  # its alone, such as a constraint that cannot be kept
            self._fail(running, error)
            return said
        if self.proposer and proposal.tokens:
            self.proposer.report(generation, len(proposal.tokens), kept)
        if generation.finish_reason:
            self._stop(running)
            return said
        # The last token is not in the cache yet, nor is any proposed one after those taken.
        running.sequence.truncate(before + kept)
        running.rest = generation.tokens[-1:]
        return said

    def _stop(self, running: Running) -> None:
        running.sequence.release()
        self.running.remove(running)
        self.waiting.extendleft(reversed(running.followers))
        if self.proposer:
            self.proposer.forget(running.generation)

    def _fail(self, running: Running, error: Exception) -> None:
        self._stop(running)
        self._end(running.generation, error)

    def _end(self, generation: Generation, error: Exception) -> None:
        generation.fail(as_out_of_memory(error))
        self._failed.append(generation)


def read_by(generation: Generation) -> tuple[int, ...]:
    """What a generation reads before it goes on: its prompt, and what it had said when it gave its blocks back."""
    return (*generation.prompt, *generation.tokens)
