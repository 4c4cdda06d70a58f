"""A teacher: an LM that is asked each question once, even if the program is killed in between.

Every reply is a line of a journal as soon as it is there. A maker is a function of the replies: started
again, it asks the same questions in the same order, is given the replies that it already has, and goes on.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace

from camelid.base.errors import CamelidError
from camelid.base.journal import Journal
from camelid.base.progress import track
from camelid.lm.connection import StatusError
from camelid.lm.interface import LM, Outcome, Prompt, PromptTooLong
from camelid.lm.sampling import Sampling
from camelid.makers.gate import Gate

CHUNK = 2048
"""Questions that are handed to the LM together."""
STRIDE = 1_000_003
"""Added to the seed for each further attempt."""
SILENT = 3
"""Questions in a row without any answer after which the teacher counts as gone."""
REFUSED = frozenset({400, 413, 422})
"""Statuses with which a server refuses one request, such as one that is too long."""
NO_ANSWER = "no answer"


@dataclass(frozen=True)
class Ask:
    """One question to the teacher; its id is unique within the job."""

    id: str
    prompt: Prompt


@dataclass(frozen=True)
class Reply:
    """What came back on one attempt; error: why nothing did. Some servers count no tokens."""

    id: str
    attempt: int
    seed: int
    text: str
    cut: bool
    tokens: int | None
    prompt_tokens: int | None
    seconds: float
    error: str = ""


FaultOf = Callable[[Ask, Reply], str | None]
"""Why a reply cannot be used, None if it can."""


class Teacher:
    """Asks an LM, and keeps every reply in a journal.

    tries: attempts at a question whose reply has a fault, each with another seed; at temperature 0 there is
    one, since the reply would be the same. gate: sees the fault of each new first reply. faults: those of all
    attempts, counted.
    """

    def __init__(
        self, lm: LM, journal: Journal, *, tries: int = 3, gate: Gate | None = None, show: bool = False
    ) -> None:
        self.lm, self.tries = lm, tries
        self.faults: Counter[str] = Counter()
        self._journal, self._gate, self._show = journal, gate, show
        rows = [{key: value for key, value in row.items() if key != journal.key} for row in journal.rows()]
        self._known = {(row["id"], row["attempt"]): Reply(**row) for row in rows}
        self._silent = 0

    @property
    def replies(self) -> list[Reply]:
        """Every reply so far, of all attempts."""
        return [*self._known.values()]

    def ask(
        self, asks: Sequence[Ask], sampling: Sampling, fault_of: FaultOf, label: str = "asking"
    ) -> list[tuple[Reply | None, str | None]]:
        """The last reply to each question, with its fault; None where no attempt was answered.

        Raises `CamelidError` where the teacher stops answering, and where the gate closes.
        """
        last: dict[str, tuple[Reply | None, str | None]] = {}
        todo = [*asks]
        for attempt in range(self.tries if sampling.temperature else 1):
            seeded = replace(sampling, seed=sampling.seed + attempt * STRIDE)
            new = [ask for ask in todo if (ask.id, attempt) not in self._known]
            for start in range(0, len(new), CHUNK):
                chunk = new[start : start + CHUNK]
                answered = self._answered(chunk, seeded, attempt, fault_of)
                for _ in track(answered, label, len(chunk), show=self._show):
                    pass
            for ask in todo:
                reply = self._known.get((ask.id, attempt))
                fault = NO_ANSWER if reply is None else reply.error or fault_of(ask, reply)
                last[ask.id] = reply, fault
                if fault:
                    self.faults[fault] += 1
            todo = [ask for ask in todo if _may_change(*last[ask.id])]
        return [last[ask.id] for ask in asks]

    def _answered(
        self, asks: Sequence[Ask], sampling: Sampling, attempt: int, fault_of: FaultOf
    ) -> Iterator[Reply]:
        """New replies as they come, each on disk before it is yielded."""
        began = time.perf_counter()
        with closing(self.lm.each([ask.prompt for ask in asks], sampling)) as outcomes:
            for index, outcome in outcomes:
                ask, now = asks[index], time.perf_counter()
                reply = self._reply(ask.id, outcome, attempt, sampling.seed, now - began)
                began = now
                if reply is None:
                    continue
                self._known[ask.id, attempt] = reply
                self._journal.append([asdict(reply)])
                if self._gate is not None and not attempt:  # later ones are to the hard questions
                    self._gate.see(reply.error or fault_of(ask, reply), reply.error or reply.text)
                yield reply

    def _reply(self, name: str, outcome: Outcome, attempt: int, seed: int, seconds: float) -> Reply | None:
        """The reply of an outcome; None for an error of the connection, which is not kept."""
        empty = Reply(name, attempt, seed, "", False, None, None, round(seconds, 4))
        if isinstance(outcome, PromptTooLong):
            return replace(empty, error="too long to ask")
        if isinstance(outcome, StatusError) and outcome.status in REFUSED:
            return replace(empty, error=f"refused by the server ({outcome.status})")
        if isinstance(outcome, CamelidError):
            self._silent += 1
            if self._silent >= SILENT:
                raise CamelidError(
                    f"the teacher stopped answering after {len(self._known)} replies: {outcome}. They are "
                    "kept: run the same command again to go on"
                ) from outcome
            return None
        self._silent = 0
        [completion] = outcome
        prompt_tokens, tokens = completion.token_counts
        return replace(
            empty,
            text=completion.text,
            cut=completion.finish_reason == "length",
            tokens=tokens,
            prompt_tokens=prompt_tokens,
        )


def _may_change(reply: Reply | None, fault: str | None) -> bool:
    """Whether another attempt can give a better reply; a question that is refused as such stays so."""
    return bool(fault) and not (reply and reply.error)
