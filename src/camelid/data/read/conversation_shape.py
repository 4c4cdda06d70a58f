"""One row format of conversations or comparisons: what identifies it, and what its rows hold."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from camelid.base.errors import CamelidError
from camelid.data.read.comparisons import Quality, Rankings, Verdicts, pair_of
from camelid.data.read.corpus import lone_surrogate
from camelid.data.read.rows import Row
from camelid.text.conversation import LOSS_KEYS, Conversation, functions, leaves, loss_weight

PROVENANCE = "made"
"""Where a row of `camelid make` comes from; it is not part of the conversation."""


@dataclass(frozen=True)
class Ranked:
    """Conversations with one prompt and the scores of their last answers; see `Ranking`."""

    conversations: tuple[Conversation, ...]
    scores: tuple[float, ...]
    rated: bool


@dataclass(frozen=True)
class ConversationShape:
    """A row format for conversations: the fields that identify it, its other fields, and its readers.

    messages: reads one conversation; None if all are verdicts. verdicts: reads good and bad answers. ranked:
    reads rankings where these are not two verdicts. when: what else must hold of a file's first row. gather:
    makes one row of several, if they belong together.
    """

    name: str
    fields: tuple[str, ...]
    messages: Callable[[Row], list[dict[str, Any]]] | None
    others: tuple[str, ...] = ()
    verdicts: Verdicts | None = None
    when: Callable[[Row], bool] = bool
    gather: Callable[[Iterable[tuple[Row, str]]], Iterator[tuple[Row, str]]] | None = None
    ranked: Rankings | None = None

    def conversations(self, row: Row, both: bool = False) -> list[tuple[Conversation, Quality | None]]:
        """Reads one row; raises `CamelidError` with the problem.

        both: read good and bad answers, as far as the shape has them, and train only what differs; otherwise
        the good ones. Fields that are not the shape's own, the system message, the tools, a loss weight or
        where a made row comes from become variables of the chat template.
        """
        self._check_fields(row)
        if self.verdicts is None or (self.messages is not None and not both):
            assert self.messages is not None
            return [(self._conversation(row, self.messages(row)), None)]
        return [
            (self._conversation(row, _untrained(one.messages, one.context if both else 0)), one.quality)
            for one in self.verdicts(row)
            if both or one.quality == "good"
        ]

    def rankings(self, row: Row) -> list[Ranked]:
        """The ranked answers to each prompt of one row, of which only what differs is trained; none for a
        tie.

        Raises `CamelidError` with the problem.
        """
        self._check_fields(row)
        if self.ranked is not None:
            found = self.ranked(row)
        else:
            found = [] if self.verdicts is None else pair_of(row, self.verdicts(row))
        return [
            Ranked(
                tuple(self._conversation(row, _untrained(each, one.context)) for each in one.answers),
                one.scores,
                one.rated,
            )
            for one in found
        ]

    def thread(self, row: Row) -> list[dict[str, Any]]:
        """The messages of one conversation of the row, good or not; empty if it has none."""
        if self.messages is not None:
            return self.messages(row)
        verdicts = [] if self.verdicts is None else self.verdicts(row)
        return verdicts[0].messages if verdicts else []

    def _check_fields(self, row: Row) -> None:
        if self.gather is None and (missing := [name for name in self.fields if name not in row]):
            raise CamelidError(
                f"no `{missing[0]}`; the first row of the file is of shape {self.name} ({self.layout})"
            )

    def _conversation(self, row: Row, messages: list[dict[str, Any]]) -> Conversation:
        if system := text_in(row, "system", optional=True):
            messages = [{"role": "system", "content": system}, *messages]
        tools = row.get("tools")
        if messages and messages[0].get("role") == "system" and messages[0].get("tools"):
            # Some data sets give them there; templates have them as a variable.
            tools = tools or messages[0]["tools"]
            messages[0] = {key: value for key, value in messages[0].items() if key != "tools"}
        read = Conversation.from_messages(messages)
        known = {*self.fields, *self.others, "system", "tools", PROVENANCE, *LOSS_KEYS}
        extra = {key: value for key, value in row.items() if key not in known}
        _check_variables(extra)
        conversation = Conversation(read.messages, functions(tools, "tools"), extra, loss_weight(row))
        _check(conversation)
        return conversation

    def fits(self, row: Row) -> bool:
        """Whether a file that begins with this row is of this shape."""
        return all(name in row for name in self.fields) and self.when(row)

    @property
    def layout(self) -> str:
        """The fields that identify the shape."""
        return ", ".join(self.fields)


def _untrained(messages: list[dict[str, Any]], context: int) -> list[dict[str, Any]]:
    """The messages, those of the assistant among the first `context` with loss weight 0."""
    before = [
        {**message, "weight": 0} if message.get("role") == "assistant" else message
        for message in messages[:context]
    ]
    return [*before, *messages[context:]]


def _check_variables(extra: Row) -> None:
    settings, documents = extra.get("chat_template_kwargs"), extra.get("documents")
    if not isinstance(settings, dict | None):
        raise CamelidError(f"chat_template_kwargs is {type(settings).__name__}; it must be an object")
    if not isinstance(documents, list | None):
        raise CamelidError(f"documents is {type(documents).__name__}; it must be a list of objects")
    for index, document in enumerate(documents or ()):
        if not isinstance(document, dict):
            raise CamelidError(f"documents[{index}] is {type(document).__name__}; it must be an object")


def _check(conversation: Conversation) -> None:
    if not conversation.messages:
        raise CamelidError("the conversation has no messages")
    if not any(message.role == "assistant" for message in conversation.messages):
        raise CamelidError("no assistant turn, so nothing to train on")
    given = {"messages": conversation.as_dicts(), "tools": conversation.tools, **conversation.extra}
    for path, value in leaves(given, ""):
        if isinstance(value, str) and (problem := lone_surrogate(value)):
            raise CamelidError(f"{path}: {problem}")
    for index, message in enumerate(conversation.messages):
        if index and message.role == "user" == conversation.messages[index - 1].role:
            raise CamelidError(
                f"messages[{index}]: two user turns in a row; join them, or add the answer between them"
            )
        empty = not (message.content or "").strip() and not message.tool_calls and not message.reasoning
        if message.role == "assistant" and empty:
            raise CamelidError(f"messages[{index}]: the assistant's answer is empty")


def text_in(row: Row, name: str, optional: bool = False) -> str:
    """The text of a field, empty without an optional one; raises `CamelidError` if it is not a string."""
    text = row.get(name)
    if text is None and optional:
        return ""
    if not isinstance(text, str):
        raise CamelidError(f"`{name}` is {type(text).__name__}; it must be a string")
    return text
