"""Which tokens of which requests a step computes (continuous batching: Orca, OSDI 2022)."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from camelid.errors import CamelidError
from camelid.infer.blocks import CachedSequence, NoBlocksError
from camelid.infer.decoder import Decoder, Extension, Predictions
from camelid.infer.generation import Generation
from camelid.infer.speculative import Proposal, Proposer, accepted_tokens

NO_PROPOSAL = Proposal((), None)


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
        """What is to be read."""
        return (*self.generation.prompt, *self.generation.tokens)


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

    def submit(self, generation: Generation) -> None:
        """Queues a generation."""
        self.waiting.append(generation)

    def cancel(self, generation: Generation) -> None:
        """Forgets a generation and gives its blocks back."""
        if generation in self.waiting:
            self.waiting.remove(generation)
        for running in [*self.running]:
            if generation in running.followers:
                running.followers.remove(generation)
            elif running.generation is generation:
                self._stop(running)

    def step(self) -> list[tuple[Generation, str]]:
        """Computes one step; every generation that said something, with its new text.

        A generation that alone needs more memory than there is fails (`Generation.error`), the others go on.
        """
        began = time.perf_counter()
        self._admit()
        planned = self._plan()
        if not planned:
            return []
        try:
            predictions = self.decoder.extend([extension for _, extension, _ in planned])
        except (CamelidError, MemoryError, torch.OutOfMemoryError) as error:
            if len(planned) == 1:
                return [self._fail(planned[0][0], error)]
            # Each by itself, to find the one that cannot be computed.
            said = []
            for part in planned:
                try:
                    predictions = self.decoder.extend([part[1]])
                    said += self._take([part], predictions)
                except (CamelidError, MemoryError, torch.OutOfMemoryError) as alone:
                    said.append(self._fail(part[0], alone))
            return said
        said = self._take(planned, predictions)
        if self.proposer and any(proposal.tokens for _, _, proposal in planned):
            self.proposer.seconds += time.perf_counter() - began
        return said

    def _admit(self) -> None:
        """Starts waiting generations while there are places and blocks, the longest waiting first."""
        passed: list[Generation] = []
        while self.waiting and self._places() > 0:
            generation = self.waiting.popleft()
            key = (*generation.prompt, *generation.tokens)
            if leader := next((r for r in self.running if r.reads and r.key == key), None):
                leader.followers.append(generation)
                continue
            sequence, rest = self.decoder.begin(generation.prompt, generation.tokens)
            if sequence.awaits([*sequence.tokens, *rest]):
                sequence.release()
                passed.append(generation)
                continue
            try:
                self.decoder.reserve(Extension(sequence, rest))
            except NoBlocksError as error:
                sequence.release()
                if self.running or passed:
                    passed.append(generation)
                    break
                generation.fail(error)
                continue
            sequence.announce([*sequence.tokens, *rest])
            self.running.append(Running(generation, sequence, list(rest)))
        self.waiting.extendleft(reversed(passed))

    def _places(self) -> int:
        return self.max_batch - sum(1 + len(running.followers) for running in self.running)

    def _plan(self) -> list[tuple[Running, Extension, Proposal]]:
        """What the step computes: a token for every answer, and what proposals add; then prompts up to `step_tokens`."""
        answering = [running for running in self.running if not running.reads]
        proposals = self._propose(answering)
        planned = []
        for running in answering:
            proposal = proposals.get(running, NO_PROPOSAL)
            tokens = [*running.rest, *proposal.tokens]
            extension = Extension(running.sequence, tokens, len(tokens))
            if self._make_room(running, extension):
                planned.append((running, extension, proposal))
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
        proposals = self.proposer.propose([running.generation for running in able])
        return dict(zip(able, proposals, strict=True))

    def _make_room(self, running: Running, extension: Extension) -> bool:
        """Blocks for an answer's next tokens, if need be from the youngest; whether it still runs."""
        while running in self.running:
            try:
                self.decoder.reserve(extension)
                return True
            except NoBlocksError as error:
                youngest = self.running[-1]
                if youngest is running and len(self.running) == 1:
                    self._fail(running, error)
                    return False
                self._stop(youngest)
                self.waiting.appendleft(youngest.generation)
        return False

    def _take(
        self, planned: Sequence[tuple[Running, Extension, Proposal]], predictions: Predictions
    ) -> list[tuple[Generation, str]]:
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
            followers, running.followers = running.followers, []
            for follower in followers:
                twin = Running(follower, running.sequence.fork(len(running.sequence)), [])
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
                # On a GPU every look at a logit waits for it.
                logit = row.highest if token == row.greedy else float(logits[index, token])
                piece = generation.accept(token, logit - row.log_total)
                kept = index
                said.append((generation, piece))
                if generation.finish_reason:
                    break
        except CamelidError as error:  # a constraint that cannot be kept
            return [*said, self._fail(running, error)]
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

    def _fail(self, running: Running, error: BaseException) -> tuple[Generation, str]:
        self._stop(running)
        running.generation.fail(error)
        return running.generation, ""
