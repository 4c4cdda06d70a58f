"""Chat data in the common shapes, read into `Conversation`.

The first row of a file determines its shape; later rows of another shape are bad rows.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from camelid.base.errors import CamelidError
from camelid.data.read.corpus import describe_files, lone_surrogate, one_format
from camelid.data.read.files import Format, data_files, format_of
from camelid.data.read.rows import BadRows, Row, rows_of
from camelid.text.conversation import Conversation


class Conversations:
    """Conversations with their location: (conversation, file:line).

    After reading, `shapes` has the shape of each file and `skipped` lists the bad rows. Iterating again reads
    again. Raises `CamelidError` as `Corpus` does, and on rows of unknown shape, with wrong types, an empty
    answer or an unknown role.
    """

    def __init__(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], skip_bad_rows: bool = False
    ):
        self.files: dict[Path, Format] = one_format({path: format_of(path) for path in data_files(paths)})
        for path, format in self.files.items():
            if format == "text":
                raise CamelidError(
                    f"{path} is text; conversations are rows of JSON, JSON lines, CSV or Parquet"
                )
        self._skip = skip_bad_rows
        self.shapes: dict[Path, str] = {}
        self.skipped: list[str] = []
        self.count = 0

    @property
    def summary(self) -> str:
        """One line about the last pass over the data."""
        skipped = f", {len(self.skipped):,} bad rows skipped" if self.skipped else ""
        shapes = ", ".join(dict.fromkeys(self.shapes.values()))
        return f"{describe_files(self.files)}: {self.count:,} conversations of shape {shapes}{skipped}"

    def __iter__(self) -> Iterator[tuple[Conversation, str]]:
        bad = BadRows(self._skip)
        self.skipped, self.count = bad.listed, 0
        for path, format in self.files.items():
            shape: ConversationShape | None = None
            for row, where in rows_of(path, format, bad):
                shape = shape or _shape_of(row, where)
                self.shapes[path] = shape.name
                try:
                    conversation = shape.conversation(row)
                except CamelidError as error:
                    bad.add(where, str(error))
                    continue
                self.count += 1
                yield conversation, where
        if not self.count:
            raise CamelidError(f"{describe_files(self.files)}: it contains no conversations")


@dataclass(frozen=True)
class ConversationShape:
    """A row format for conversations: the fields that identify it, and its reader."""

    name: str
    fields: tuple[str, ...]
    messages: Callable[[Row], list[dict[str, Any]]]

    def conversation(self, row: Row) -> Conversation:
        """Reads one row; raises `CamelidError` with the problem."""
        if missing := [name for name in self.fields if name not in row]:
            raise CamelidError(
                f"no `{missing[0]}`; the first row of the file is of shape {self.name} ({self.layout})"
            )
        messages = self.messages(row)
        if system := _text(row, "system", optional=True):
            messages = [{"role": "system", "content": system}, *messages]
        conversation = Conversation.from_messages(messages)
        _check(conversation)
        tools = row.get("tools")
        if not tools:
            return conversation
        if not isinstance(tools, list):
            raise CamelidError(f"`tools` is {type(tools).__name__}; it must be a list")
        return Conversation(conversation.messages, tuple(tools))

    @property
    def layout(self) -> str:
        """The fields that identify the shape."""
        return ", ".join(self.fields)


def _check(conversation: Conversation) -> None:
    if not conversation.messages:
        raise CamelidError("the conversation has no messages")
    if not any(message.role == "assistant" for message in conversation.messages):
        raise CamelidError("no assistant turn, so nothing to train on")
    for index, message in enumerate(conversation.messages):
        if problem := lone_surrogate(message.content):
            raise CamelidError(f"messages[{index}]: {problem}")
        if message.role == "assistant" and not message.content.strip() and not message.tool_calls:
            raise CamelidError(f"messages[{index}]: the assistant's answer is empty")


def _openai(row: Row) -> list[dict[str, Any]]:
    return _list_of_tables(row, "messages")


_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}


def _sharegpt(row: Row) -> list[dict[str, Any]]:
    turns = _list_of_tables(row, "conversations")
    if all("role" in turn for turn in turns):
        return turns
    messages = []
    for index, turn in enumerate(turns):
        speaker = turn.get("from")
        if speaker not in _SHAREGPT_ROLES:
            raise CamelidError(
                f"conversations[{index}].from is {speaker!r}; allowed: {', '.join(_SHAREGPT_ROLES)}"
            )
        if not isinstance(turn.get("value"), str):
            raise CamelidError(f"conversations[{index}].value must be a string")
        messages.append({"role": _SHAREGPT_ROLES[speaker], "content": turn["value"]})
    return messages


def _instruction(context: str, answer: str) -> Callable[[Row], list[dict[str, Any]]]:
    """Reads `instruction`, an optional context field and an optional `history` of pairs."""

    def read(row: Row) -> list[dict[str, Any]]:
        given = _text(row, context, optional=True)
        question = _text(row, "instruction") + (f"\n\n{given}" if given else "")
        history = row.get("history") or []
        if not isinstance(history, list) or not all(
            isinstance(turn, list) and len(turn) == 2 for turn in history
        ):
            raise CamelidError("`history` must be a list of [question, answer] pairs")
        return _turns([*history, [question, _text(row, answer)]])

    return read


def _prompt(answer: str) -> Callable[[Row], list[dict[str, Any]]]:
    """Reads a `prompt` and its answer, each a string or a list of messages."""

    def read(row: Row) -> list[dict[str, Any]]:
        if isinstance(row["prompt"], list) and isinstance(row[answer], list):
            return [*_list_of_tables(row, "prompt"), *_list_of_tables(row, answer)]
        return _turns([[_text(row, "prompt"), _text(row, answer)]])

    return read


CONVERSATION_SHAPES = (
    ConversationShape("OpenAI", ("messages",), _openai),
    ConversationShape("ShareGPT", ("conversations",), _sharegpt),
    ConversationShape("Alpaca", ("instruction", "output"), _instruction("input", "output")),
    ConversationShape("GPTeacher", ("instruction", "input", "response"), _instruction("input", "response")),
    ConversationShape("Dolly", ("instruction", "response"), _instruction("context", "response")),
    ConversationShape("prompt and completion", ("prompt", "completion"), _prompt("completion")),
    ConversationShape("prompt and response", ("prompt", "response"), _prompt("response")),
)


def _shape_of(row: Row, where: str) -> ConversationShape:
    for shape in CONVERSATION_SHAPES:
        if all(name in row for name in shape.fields):
            return shape
    known = "; ".join(f"{shape.name}: {shape.layout}" for shape in CONVERSATION_SHAPES)
    hint = "; rows with `text` are for pretraining" if "text" in row else ""
    raise CamelidError(
        f"{where}: the fields {', '.join(map(str, row))} are not a known conversation shape{hint}. "
        f"Known: {known}"
    )


def _turns(pairs: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": content}
        for pair in pairs
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]


def _text(row: Row, name: str, optional: bool = False) -> str:
    text = row.get(name)
    if text is None and optional:
        return ""
    if not isinstance(text, str):
        raise CamelidError(f"`{name}` is {type(text).__name__}; it must be a string")
    return text


def _list_of_tables(row: Row, name: str) -> list[dict[str, Any]]:
    turns = row[name]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise CamelidError(f"`{name}` is {str(turns)[:60]!r}; it must be a list of objects")
    return turns
