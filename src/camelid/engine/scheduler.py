"""Which tokens of which requests a step computes (continuous batching: Orca, OSDI 2022)."""

import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from camelid.base.errors import WrongCall
from camelid.base.memory import as_out_of_memory
from camelid.engine.blocks import NoBlocksError
from camelid.engine.decoder import Decoder, Extension, Predictions
from camelid.engine.generation import Generation
from camelid.engine.running import (
    NO_PROPOSAL,
    NewText,
    Part,
    Request,
    Rows,
    RowSummary,
    Running,
    pieces,
    read_by,
)
from camelid.engine.sampling import Draw
from camelid.engine.scoring import Scoring
from camelid.engine.speculative import Proposal, Proposer, accepted_tokens
from camelid.engine.waiting import MOST_LOOKS, Waiting


class Scheduler:
    """Requests in, steps out; `step` advances every running generation by a token or a piece of its prompt.

    step_tokens: most tokens of a step, those of running answers first, so that a long prompt is read in
    pieces while answers go on. If blocks run out, the youngest request is preempted: it gives its own back
    and starts again later, with the same result (see `Pace` for draft tokens at a temperature above 0).
    """

    def __init__(
        self, decoder: Decoder, max_batch: int, step_tokens: int, proposer: Proposer | None = None
    ) -> None:
        self.decoder, self.max_batch, self.step_tokens = decoder, max_batch, step_tokens
        self.proposer = proposer
        self.waiting: deque[Request] = deque()
        self.running: list[Running] = []
        self._failed: list[Request] = []
        self._known = Waiting(decoder.pool)

    def submit(self, request: Request) -> None:
        """Queues a request; raises `WrongCall` where it was queued before."""
        if request.submitted:
            raise WrongCall("this request was submitted before; ask for each text with a request of its own")
        request.submitted = True
        self.waiting.append(request)

    def cancel(self, request: Request) -> None:
        """Ends a request without a completion and gives its blocks back."""
        request.cancelled = True
        if request in self.waiting:
            self.waiting.remove(request)
        for running in [*self.running]:
            if request in running.followers:
                running.followers.remove(request)
            elif running.request is request:
                self._stop(running)

    def step(self) -> list[NewText]:
        """Computes one step; the requests with new text, or at their end.

        One that cannot be computed, as where it alone needs more memory than there is, fails (its `error`);
        the others go on.
        """
        began = time.perf_counter()
        self._admit()
        planned = self._plan()
        try:
            texts = self._compute(planned) if planned else []
        except BaseException:
            # Interrupted (Ctrl-C): sequences may hold tokens that no generation knows of.
            self.preempt_all()
            raise
        if self.proposer and any(proposal.tokens for _, _, proposal in planned):
            self.proposer.seconds += time.perf_counter() - began
        failed, self._failed = self._failed, []
        return [*texts, *((request, "") for request in failed)]

    def preempt(self) -> bool:
        """Preempts the youngest running request, which starts again later; whether there was one."""
        if not self.running:
            return False
        youngest = self.running[-1]
        self._stop(youngest)
        if not youngest.request.ended:
            self.waiting.appendleft(youngest.request)
        return True

    def preempt_all(self) -> None:
        """Every running request gives its blocks back and starts again."""
        while self.preempt():
            pass

    def renew(self) -> None:
        """Every running request starts again with its tokens so far, and scores from their beginning."""
        self.preempt_all()
        for request in self.waiting:
            if isinstance(request, Scoring):
                request.restart()

    def _compute(self, planned: Sequence[Part]) -> list[NewText]:
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
        """Starts waiting requests while there are places and blocks, the longest waiting first."""
        if not self.waiting or self._places() <= 0:
            return
        self._known.looks = 0
        leaders = {each.key: each for each in reversed(self.running) if each.reads}
        for request in [*self.waiting]:
            if self._known.awaits_block(request):
                continue
            key = read_by(request)
            if leader := leaders.get(key):
                leader.followers.append(request)
            elif self.running and self._known.awaits_room(request):
                break
            else:
                try:
                    running = self._begun(request)
                except Exception as error:
                    if self.running and isinstance(error, NoBlocksError):
                        self._known.await_room(request)
                        break
                    self._end(request, error)
                else:
                    if running is None:
                        if self._known.looks == MOST_LOOKS:
                            break
                        continue
                    self.running.append(running)
                    if running.reads:
                        leaders[key] = running
            self.waiting.remove(request)
            if self._places() <= 0:
                break

    def _begun(self, request: Request) -> Running | None:
        """The request with blocks for all that it reads; None while another computes what it begins with."""
        sequence, rest = self.decoder.begin(request.prompt, request.tokens)
        whole = [*sequence.tokens, *rest]
        try:
            if awaited := sequence.awaits(whole):
                self._known.await_block(request, awaited)
                sequence.release()
                return None
            self.decoder.reserve(Extension(sequence, rest))
        except BaseException:
            sequence.release()
            raise
        sequence.announce(whole)
        return Running(request, sequence, list(rest))

    def _places(self) -> int:
        return self.max_batch - sum(1 + len(running.followers) for running in self.running)

    def _plan(self) -> list[Part]:
        """A token for every answer with its draft tokens, then prompts up to `step_tokens`."""
        answering = [running for running in self.running if running.answers]
        proposals = self._propose(answering)
        planned = []
        for running in answering:
            if running not in self.running:
                continue  # preempted for one before it
            part = self._answering_part(running, proposals.get(running.request, NO_PROPOSAL))
            if self._make_room(running, part[1]):
                planned.append(part)
        planned = [part for part in planned if part[0] in self.running]
        left = max(1, self.step_tokens - sum(len(extension.tokens) for _, extension, _ in planned))
        planned += self._plan_reading(left)
        return [part for part in planned if part[0] in self.running]

    def _plan_reading(self, left: int) -> Iterator[Part]:
        """Parts of prompts and of continuations, `left` tokens in all."""
        readers = [running for running in self.running if not running.answers]
        sources = [self.decoder.unread(running.sequence) for running in readers]
        for running, piece, wanted in pieces(readers, sources, left):
            if running not in self.running:
                continue
            extension = Extension(running.sequence, piece, wanted)
            if not running.scores or self._make_room(running, extension):
                yield running, extension, NO_PROPOSAL

    def _propose(self, answering: Sequence[Running]) -> dict[Request, Proposal]:
        if self.proposer is None:
            return {}
        generations = [cast(Generation, running.request) for running in answering]
        able = [each for each in generations if each.may_speculate]
        try:
            proposed: dict[Request, Proposal] = dict(zip(able, self.proposer.propose(able), strict=True))
        except Exception as error:
            warnings.warn(f"the draft fails, and answers go on without it: {error}", stacklevel=2)
            for running in self.running:
                self._forget(running)
            self.proposer = None
            return {}
        return proposed

    def _answering_part(self, running: Running, proposal: Proposal) -> Part:
        """An answer's last token with its draft tokens, as far as there are blocks for these."""
        tokens = [*running.rest, *proposal.tokens]
        extension = Extension(running.sequence, tokens, len(tokens))
        if proposal.tokens:
            try:
                self.decoder.reserve(extension)
            except NoBlocksError:
                return self._answering_part(running, NO_PROPOSAL)
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
                self.preempt()
        return False

    def _take(self, planned: Sequence[Part], predictions: Predictions) -> list[NewText]:
        """Gives the step's predictions to the requests that wait for them; their new texts."""
        texts: list[NewText] = []
        summaries = RowSummary.of(predictions)
        row = 0
        for running, extension, proposal in planned:
            rows = slice(row, row + extension.wanted)
            row += extension.wanted
            if not extension.wanted:
                del running.rest[: len(extension.tokens)]
                continue
            own = predictions, rows, summaries[rows]
            read = len(running.sequence) - len(proposal.tokens)
            while running.followers:
                twin = Running(running.followers.pop(0), running.sequence.fork(read), [])
                self.running.append(twin)
                # Without what the leader's draft tokens predict.
                first = predictions, slice(rows.start, rows.start + 1), own[2][:1]
                texts += self._receive(twin, first, NO_PROPOSAL)
            texts += self._receive(running, own, proposal)
        return texts

    def _receive(self, running: Running, own: Rows, proposal: Proposal) -> list[NewText]:
        request = running.request
        if isinstance(request, Generation):
            return self._add_tokens(running, request, own, proposal)
        predictions, rows, _ = own
        try:
            request.take(Predictions(*(column[rows] for column in predictions)))
        except Exception as error:
            self._fail(running, error)
            return []
        if request.ended:
            self._stop(running)
            return [(request, "")]
        running.scores, running.rest = True, [*request.left]
        return []

    def _add_tokens(
        self, running: Running, generation: Generation, own: Rows, proposal: Proposal
    ) -> list[NewText]:
        predictions, rows, summaries = own
        logits = predictions.logits
        before = len(running.sequence) - len(proposal.tokens)
        kept, texts = 0, list[NewText]()
        try:
            greedy = RowSummary.finite_greedy(summaries)
            draws: Iterable[Draw] = (
                accepted_tokens(generation, proposal, logits[rows], greedy)
                if proposal.tokens
                else [generation.choose(logits[rows.start], next(greedy))]
            )
            for index, (token, sampled_logprob) in enumerate(draws):
                row = summaries[index]
                # On a GPU every look at a logit waits for it.
                logit = row.highest if token == row.greedy else float(logits[rows.start + index, token])
                generation.report(predictions, rows.start + index)
                piece = generation.accept(token, logit - row.log_total, sampled_logprob)
                kept = index
                texts.append((generation, piece))
                if generation.finish_reason:
                    break
        except Exception as error:  # its alone, such as a constraint that cannot be kept
            self._fail(running, error)
            return texts
        if self.proposer and proposal.tokens:
            self.proposer.report(generation, len(proposal.tokens), kept)
        if generation.finish_reason:
            self._stop(running)
            return texts
        # The last token is not in the cache yet, nor is any proposed one after those taken.
        running.sequence.truncate(before + kept)
        running.rest = generation.tokens[-1:]
        return texts

    def _stop(self, running: Running) -> None:
        running.sequence.release()
        self.running.remove(running)
        self.waiting.extendleft(reversed(running.followers))
        self._forget(running)

    def _forget(self, running: Running) -> None:
        if self.proposer and isinstance(running.request, Generation):
            self.proposer.forget(running.request)

    def _fail(self, running: Running, error: Exception) -> None:
        self._stop(running)
        self._end(running.request, error)

    def _end(self, request: Request, error: Exception) -> None:
        request.fail(as_out_of_memory(error))
        self._failed.append(request)
