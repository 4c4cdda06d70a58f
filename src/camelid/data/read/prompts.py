"""What a model is to be asked: the questions of rows in the common shapes, without their answers."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError
from camelid.data.read.conversation_shapes import CONVERSATION_SHAPES, known_shape
from camelid.data.read.corpus import describe_files, lone_surrogate
from camelid.data.read.files import Format, data_files, format_of, lines_of
from camelid.data.read.renaming import named, renaming
from camelid.data.read.rows import BadRows, Row, rows_of
from camelid.data.read.transcripts import is_transcript, transcript_messages
from camelid.text.conversation import Conversation, leaves

FIELDS = ("prompt", "question", "instruction")
"""Fields of a question; an instruction may come with `input` or `context`."""


@dataclass(frozen=True)
class Question:
    """A conversation that ends with the user's turn; id: the row's own, or its `file:line`, which is `where`.

    columns: the row that it is from, such as the right `answer`.
    """

    id: str
    conversation: Conversation
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)
    where: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The user's last turn."""
        return self.conversation.messages[-1].content or ""


class Questions:
    """The questions in files: rows, or text files with a question in each line.

    Rows are conversations of any shape, whose last answer is left out, or have `prompt`, `question` or
    `instruction` (as self-instruct's, with the input of the first of `instances`). `skipped` lists the bad
    rows of the last pass. Raises `CamelidError` on a missing or unreadable file, on rows without a question
    and on an id that comes twice.
    """

    def __init__(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], skip_bad_rows: bool = False
    ) -> None:
        self.files: dict[Path, Format] = {path: format_of(path) for path in data_files(paths)}
        self._bad = BadRows(skip_bad_rows)

    @property
    def skipped(self) -> list[str]:
        """The bad rows of the last pass, each with its location and problem."""
        return self._bad.listed

    def __iter__(self) -> Iterator[Question]:
        bad = self._bad = BadRows(self._bad.skip)
        ids: dict[str, str] = {}
        for path, format in self.files.items():
            for row, where in _lines(path) if format == "text" else _gathered(rows_of(path, format, bad)):
                name = row.get("id", where)
                name = name if isinstance(name, str) else where
                try:
                    if name in ids:
                        raise CamelidError(f"the id {name!r} is also that of {ids[name]}")
                    question = Question(name, _conversation(row), row, where)
                except CamelidError as error:
                    bad.add(where, str(error))
                    continue
                ids[name] = where
                yield question
        if not ids:
            raise CamelidError(f"{describe_files(self.files)}: it contains no questions{bad.first}")


def _lines(path: Path) -> Iterator[tuple[Row, str]]:
    return (
        ({"question": line.strip()}, f"{path}:{number}") for number, line in lines_of(path) if line.strip()
    )


def _gathered(rows: Iterator[tuple[Row, str]]) -> Iterator[tuple[Row, str]]:
    """The rows, or the trees where each row is a message of one."""
    if (first := next(rows, None)) is None:
        return iter(())
    shape, rows = known_shape(first[0]), chain([first], rows)
    return rows if shape is None or shape.gather is None else shape.gather(rows)


def _conversation(row: Row) -> Conversation:
    messages = _messages(row)
    system = row.get("system")
    if isinstance(system, str) and system:
        messages = [{"role": "system", "content": system}, *messages]
    last = max((at for at, each in enumerate(messages) if each.get("role") == "user"), default=None)
    if last is None:
        raise CamelidError("there is no turn of the user, so nothing to ask")
    conversation = Conversation.from_messages(messages[: last + 1])
    if not (conversation.messages[-1].content or "").strip():
        raise CamelidError("the question is empty")
    for path, value in leaves(conversation.as_dicts(), ""):
        if isinstance(value, str) and (problem := lone_surrogate(value)):
            raise CamelidError(f"{path}: {problem}")
    return conversation


def _messages(row: Row) -> list[dict[str, Any]]:
    shape = known_shape(row)
    if shape is not None and (thread := shape.thread(row)):
        return thread
    name = next((name for name in FIELDS if row.get(name) is not None), None)  # a tie has a question, too
    if name is None and shape is not None:
        return []
    if name is None:
        shapes = [shape.fields for shape in CONVERSATION_SHAPES] + [(name,) for name in FIELDS]
        raise CamelidError(
            f"the fields {named(row)} hold no question{renaming(row, *shapes)}; a row has messages, "
            f"conversations, {', '.join(FIELDS)}"
        )
    value = row[name]
    if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        return value
    if not isinstance(value, str):
        raise CamelidError(f"`{name}` is {type(value).__name__}; it must be a string, or a list of messages")
    if name == "prompt" and is_transcript(value):
        return transcript_messages(value)
    context = _context(row) if name == "instruction" else ""
    return [{"role": "user", "content": f"{value}\n\n{context}" if context else value}]


def _context(row: Row) -> str:
    """The input of an instruction; self-instruct's rows hold it in their instances."""
    instances = row.get("instances")
    first = instances[0] if isinstance(instances, list) and instances else {}
    given = row.get("input") or row.get("context") or (isinstance(first, dict) and first.get("input")) or ""
    if not isinstance(given, str):
        raise CamelidError(f"the instruction's input is {type(given).__name__}; it must be a string")
    return given
