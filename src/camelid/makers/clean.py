"""`camelid make clean`: threads that people shared, as rows for `camelid tune`.

The steps are those of Vicuna's data (lm-sys/FastChat, fastchat/data): HTML to Markdown, blocked words, empty
answers, duplicates, languages, broken lists, and splitting at turn borders. Each is a function that raises
`DroppedError`; they are counted in their order.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from camelid.makers.faults import HEAD, REFUSAL
from camelid.makers.language import language_of
from camelid.makers.markdown import to_markdown
from camelid.makers.pieces import Pieces
from camelid.makers.seen import Seen
from camelid.makers.threads import ASSISTANT, DroppedError, Thread, Turn, thread_of
from camelid.recipes.clean import CleanRecipe

_DIGITS = re.compile(r"(\d)\1{8}")
_BROKEN_LIST = re.compile(r"\n1\. [^2]*\n1\. ")
"""FastChat's filter_wrong_format."""
_BOILERPLATE = re.compile(r"\A\W*(?:too many requests in 1 hour|network error|an error occurred)", re.I)
"""Answers that the page wrote, not the model."""


@dataclass
class Counts:
    """What happened to the threads: read, kept, rows made of them, and by step and reason the dropped ones.

    mended: by kind, what was left out of threads that were kept so far.
    """

    read: int = 0
    kept: int = 0
    rows: int = 0
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)

    def steps(self) -> list[dict[str, Any]]:
        """Each step with the threads before it, and those that it dropped by reason."""
        left, table = self.read, []
        for step in STEPS:
            reasons = {reason: count for (at, reason), count in self.dropped.items() if at == step}
            table.append({"step": step, "threads": left, "dropped": reasons})
            left -= sum(reasons.values())
        return table


STEPS = ("read", "convert", "duplicates", "languages", "lists", "split")


@dataclass(frozen=True)
class Cleaner:
    """The steps with their settings; `pieces`: how threads are split, None if they are not."""

    recipe: CleanRecipe
    seen: Seen
    pieces: Pieces | None = None
    counts: Counts = field(default_factory=Counts)

    def rows(
        self, rows: Iterable[tuple[Any, str]], dropped: Callable[[str, str, str], None]
    ) -> Iterator[dict[str, Any]]:
        """The rows made of (row, location) pairs; `dropped` is given step, reason and location of others."""
        for row, where in rows:
            self.counts.read += 1
            try:
                thread, mended = thread_of(row)
                parts = self._split(self._in_language(self._first_seen(self._converted(thread), row)))
            except DroppedError as error:
                self.counts.dropped[error.step, error.reason] += 1
                dropped(error.step, error.reason, where)
                continue
            self.counts.mended.update(mended)
            self.counts.kept += 1
            for part in parts:
                self.counts.rows += 1
                yield _row(part, where)

    def _converted(self, thread: Thread) -> Thread:
        """The thread in Markdown, up to the last whole pair before an empty or unwanted turn."""
        turns, reason = list[Turn](), ""
        for turn in thread.turns:
            if word := self._blocked(turn.text):
                raise DroppedError(f"the word {word}", "convert")
            text = to_markdown(turn.text)
            if reason := self._unwanted(turn.role, text):
                break
            turns.append(Turn(turn.role, text))
        turns = turns[: len(turns) // 2 * 2]
        if not turns:
            raise DroppedError(reason, "convert")
        if sum(len(turn.text) for turn in turns) < self.recipe.min_characters:
            raise DroppedError(f"fewer than {self.recipe.min_characters} characters", "convert")
        if reason:
            self.counts.mended[f"cut before {reason}"] += 1
        return replace(thread, turns=turns, system=to_markdown(thread.system))

    def _blocked(self, text: str) -> str | None:
        lower = text.lower()
        return next((word for word in self.recipe.blocked if word.lower() in lower), None)

    def _unwanted(self, role: str, text: str) -> str:
        """Why a thread ends before this turn; empty if it goes on."""
        if not text or not text[0].isprintable():
            return "an empty turn"
        if role == ASSISTANT and _BOILERPLATE.match(text):
            return "a message of the page"
        straight = text[:HEAD].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        if role == ASSISTANT and self.recipe.refusals and REFUSAL.search(straight):
            return "a refusal"
        return ""

    def _first_seen(self, thread: Thread, row: Any) -> Thread:
        """Drops threads with an id that was kept before, with plugins, or that begin as one before."""
        if thread.id is not None and self.seen.has("id", thread.id):
            raise DroppedError("the id of an earlier thread", "duplicates")
        if row.get("plugins") is not None:
            raise DroppedError("plugins", "duplicates")
        if not self.seen.add("text", thread.turns[0].text, thread.turns[1].text):
            raise DroppedError("question and answer of an earlier thread", "duplicates")
        if thread.id is not None:
            self.seen.add("id", thread.id)
        return thread

    def _in_language(self, thread: Thread) -> Thread:
        """Drops threads in other languages, with runs of digits, and with lists that begin again."""
        if self.recipe.languages and (found := language_of(thread.text)) not in self.recipe.languages:
            raise DroppedError(f"language {found}", "languages")
        if self.recipe.repeated_digits and any(_DIGITS.search(turn.text) for turn in thread.turns):
            raise DroppedError("nine equal digits in a row", "languages")
        if self.recipe.broken_lists and any(_BROKEN_LIST.search(turn.text) for turn in thread.turns):
            raise DroppedError("a list that begins again", "lists")
        return thread

    def _split(self, thread: Thread) -> list[Thread]:
        if self.pieces is None:
            return [thread]
        parts, too_long = self.pieces.split(thread)
        if not parts:
            raise DroppedError("no question and answer fit into the context", "split")
        if too_long:
            self.counts.mended["a question and answer longer than the context left out"] += too_long
        self.counts.mended["split"] += len(parts) > 1
        return parts


def _row(thread: Thread, where: str) -> dict[str, Any]:
    system = [{"role": "system", "content": thread.system}] if thread.system else []
    messages = system + [{"role": turn.role, "content": turn.text} for turn in thread.turns]
    return {"messages": messages, "made": {"by": "clean", "id": thread.id, "from": where}}
