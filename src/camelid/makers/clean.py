"""`camelid make clean`: threads that people shared, as rows for `camelid tune`.

The steps are those of Vicuna's data (lm-sys/FastChat, fastchat/data): HTML to Markdown, blocked words, empty
answers, duplicates, languages, broken lists, and splitting at turn borders. All but the search for duplicates
look at one row, in several processes if wanted; they are counted in their order.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from camelid.makers.faults import HEAD, REFUSAL
from camelid.makers.markdown import to_markdown
from camelid.makers.pieces import Pieces
from camelid.makers.seen import Seen
from camelid.makers.threads import ASSISTANT, DroppedError, Thread, Turn, thread_of
from camelid.recipes.clean import CleanRecipe
from camelid.text.language import language_of

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


class Prepared(NamedTuple):
    """What a row comes to by itself: its thread in Markdown, its parts, or the step and reason to drop it.

    thread: None if it is dropped before it is compared with other threads.
    """

    thread: Thread | None
    plugins: bool
    parts: list[Thread]
    fault: tuple[str, str] | None
    mended: list[str]


@dataclass(frozen=True)
class Preparation:
    """The steps that look at one row only; `pieces`: how threads are split, None if they are not."""

    recipe: CleanRecipe
    pieces: Pieces | None = None

    def __call__(self, row: Any) -> Prepared:
        """The row by itself."""
        thread, plugins, mended = None, row.get("plugins") is not None, list[str]()
        try:
            read, mended = thread_of(row)
            thread = self._converted(read, mended)
            parts = self._split(self._wanted(thread), mended)
        except DroppedError as error:
            return Prepared(thread, plugins, [], (error.step, error.reason), mended)
        return Prepared(thread, plugins, parts, None, mended)

    def _converted(self, thread: Thread, mended: list[str]) -> Thread:
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
            mended.append(f"cut before {reason}")
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

    def _wanted(self, thread: Thread) -> Thread:
        """Drops threads in other languages, with runs of digits, and with lists that begin again."""
        if self.recipe.languages and (found := language_of(thread.text)) not in self.recipe.languages:
            raise DroppedError(f"language {found}", "languages")
        if self.recipe.repeated_digits and any(_DIGITS.search(turn.text) for turn in thread.turns):
            raise DroppedError("nine equal digits in a row", "languages")
        if self.recipe.broken_lists and any(_BROKEN_LIST.search(turn.text) for turn in thread.turns):
            raise DroppedError("a list that begins again", "lists")
        return thread

    def _split(self, thread: Thread, mended: list[str]) -> list[Thread]:
        if self.pieces is None:
            return [thread]
        parts, too_long = self.pieces.split(thread)
        if not parts:
            raise DroppedError("no question and answer fit into the context", "split")
        mended += ["a question and answer longer than the context left out"] * too_long
        mended += ["split"] * (len(parts) > 1)
        return parts


@dataclass(frozen=True)
class Cleaner:
    """The steps in their order, with their counts."""

    seen: Seen
    counts: Counts = field(default_factory=Counts)

    def rows(
        self, prepared: Iterable[tuple[Prepared, str]], dropped: Callable[[str, str, str], None]
    ) -> Iterator[dict[str, Any]]:
        """The rows of (prepared row, location) pairs; `dropped` is given step, reason and place of others."""
        for one, where in prepared:
            self.counts.read += 1
            fault = one.fault
            if one.thread is not None and (again := self._again(one.thread, one.plugins)):
                fault = ("duplicates", again)
            if fault is not None:
                self.counts.dropped[fault] += 1
                dropped(*fault, where)
                continue
            self.counts.mended.update(one.mended)
            self.counts.kept += 1
            self.counts.rows += len(one.parts)
            yield from (_row(part, where) for part in one.parts)

    def _again(self, thread: Thread, plugins: bool) -> str:
        """Why a thread is one too many, or of plugins; empty if it is the first of its kind."""
        if thread.id is not None and self.seen.has("id", thread.id):
            return "the id of an earlier thread"
        if plugins:
            return "plugins"
        if not self.seen.add("text", thread.turns[0].text, thread.turns[1].text):
            return "question and answer of an earlier thread"
        if thread.id is not None:
            self.seen.add("id", thread.id)
        return ""


def _row(thread: Thread, where: str) -> dict[str, Any]:
    system = [{"role": "system", "content": thread.system}] if thread.system else []
    messages = system + [{"role": turn.role, "content": turn.text} for turn in thread.turns]
    return {"messages": messages, "made": {"by": "clean", "id": thread.id, "from": where}}
