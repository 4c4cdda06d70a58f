"""The row formats of conversations and comparisons: what identifies them, and how they are read."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from camelid.base.errors import CamelidError, shortened
from camelid.data.read.comparisons import (
    Quality,
    Verdicts,
    chosen_and_rejected,
    labelled,
    two_outputs,
)
from camelid.data.read.corpus import lone_surrogate
from camelid.data.read.renaming import named, renaming
from camelid.data.read.rows import Row
from camelid.data.read.transcripts import transcript_messages
from camelid.data.read.trees import best_thread, gathered, ranked_verdicts
from camelid.text.conversation import LOSS_KEYS, Conversation, functions, leaves, loss_weight

PROVENANCE = "made"
"""Where a row of `camelid make` comes from; it is not part of the conversation."""


@dataclass(frozen=True)
class ConversationShape:
    """A row format for conversations: the fields that identify it, its other fields, and its readers.

    messages: reads one conversation; None if all are verdicts. verdicts: reads good and bad answers. when:
    what else must hold of a file's first row. gather: makes one row of several, if they belong together.
    """

    name: str
    fields: tuple[str, ...]
    messages: Callable[[Row], list[dict[str, Any]]] | None
    others: tuple[str, ...] = ()
    verdicts: Verdicts | None = None
    when: Callable[[Row], bool] = bool
    gather: Callable[[Iterable[tuple[Row, str]]], Iterator[tuple[Row, str]]] | None = None

    def conversations(self, row: Row, both: bool = False) -> list[tuple[Conversation, Quality | None]]:
        """Reads one row; raises `CamelidError` with the problem.

        both: read good and bad answers, as far as the shape has them, and train only what differs; otherwise
        the good ones. Fields that are not the shape's own, the system message, the tools, a loss weight or
        where a made row comes from become variables of the chat template.
        """
        if self.gather is None and (missing := [name for name in self.fields if name not in row]):
            raise CamelidError(
                f"no `{missing[0]}`; the first row of the file is of shape {self.name} ({self.layout})"
            )
        if self.verdicts is None or (self.messages is not None and not both):
            assert self.messages is not None
            return [(self._conversation(row, self.messages(row)), None)]
        return [
            (self._conversation(row, _untrained(one.messages, one.context if both else 0)), one.quality)
            for one in self.verdicts(row)
            if both or one.quality == "good"
        ]

    def thread(self, row: Row) -> list[dict[str, Any]]:
        """The messages of one conversation of the row, good or not; empty if it has none."""
        if self.messages is not None:
            return self.messages(row)
        verdicts = [] if self.verdicts is None else self.verdicts(row)
        return verdicts[0].messages if verdicts else []

    def _conversation(self, row: Row, messages: list[dict[str, Any]]) -> Conversation:
        if system := _text(row, "system", optional=True):
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


def _openai(row: Row) -> list[dict[str, Any]]:
    return _list_of_tables(row, "messages")


_CALL = "function_call"
"""LLaMA-Factory's speaker of a call; the value is the JSON text of a call or of several."""
_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    _CALL: "assistant",
}


def _sharegpt(row: Row) -> list[dict[str, Any]]:
    turns = _list_of_tables(row, "conversations")
    if all("role" in turn for turn in turns):
        return turns
    messages = []
    for index, turn in enumerate(turns):
        speaker, value = turn.get("from"), turn.get("value")
        if not isinstance(speaker, str) or speaker not in _SHAREGPT_ROLES:
            raise CamelidError(
                f"conversations[{index}].from is {shortened(speaker)}; allowed: {', '.join(_SHAREGPT_ROLES)}"
            )
        if not isinstance(value, str | None) or (value is None and not turn.get("tool_calls")):
            raise CamelidError(f"conversations[{index}].value is {shortened(value)}; it must be a string")
        others = {key: entry for key, entry in turn.items() if key not in ("from", "value")}
        if speaker == _CALL and isinstance(value, str):
            others["tool_calls"], value = _calls(value, f"conversations[{index}].value"), None
        messages.append({"role": _SHAREGPT_ROLES[speaker], "content": value, **others})
    return messages


def _calls(text: str, where: str) -> tuple[Mapping[str, Any], ...] | None:
    """The calls in a text: one JSON object, or a list of them."""
    return functions(f"[{text}]" if text.lstrip().startswith("{") else text, where)


def _instruction(context: str, answer: str) -> Callable[[Row], list[dict[str, Any]]]:
    """Reads `instruction`, an optional context field and an optional `history` of pairs."""

    def read(row: Row) -> list[dict[str, Any]]:
        given = _text(row, context, optional=True)
        question = _text(row, "instruction") + (f"\n\n{given}" if given else "")
        history = row.get("history") or []
        if not isinstance(history, list) or not all(
            isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)
            for turn in history
        ):
            raise CamelidError("`history` must be a list of [question, answer] pairs of strings")
        return _turns([*history, [question, _text(row, answer)]])

    return read


def _prompt(answer: str) -> Callable[[Row], list[dict[str, Any]]]:
    """Reads a `prompt` and its answer, each a string or a list of messages."""

    def read(row: Row) -> list[dict[str, Any]]:
        if isinstance(row["prompt"], list) and isinstance(row[answer], list):
            return [*_list_of_tables(row, "prompt"), *_list_of_tables(row, answer)]
        return _turns([[_text(row, "prompt"), _text(row, answer)]])

    return read


def _transcript(row: Row) -> list[dict[str, Any]]:
    return transcript_messages(_text(row, "transcript"))


def _is_flat(row: Row) -> bool:
    return "replies" not in row


def _has_label(row: Row) -> bool:
    return str(row["label"]).lower() in ("true", "false")  # CSV has only strings


def _is_tree(row: Row) -> bool:
    return isinstance(row["prompt"], dict)


COMPARISON_SHAPES = (
    ConversationShape(
        "chosen and rejected",
        ("chosen", "rejected"),
        None,
        ("prompt", "instruction", "input", "output", "messages", "conversations"),
        verdicts=chosen_and_rejected,
    ),
    ConversationShape(
        "AlpacaEval annotations", ("instruction", "output_1", "output_2", "preference"), None, (), two_outputs
    ),
    ConversationShape(
        "OASST trees", ("message_tree_id", "prompt"), best_thread, ("tree_state",), ranked_verdicts, _is_tree
    ),
    ConversationShape(
        "OASST messages, one a row",
        ("message_id", "parent_id", "message_tree_id", "text", "role"),
        best_thread,
        ("prompt",),
        ranked_verdicts,
        _is_flat,
        gathered,
    ),
    ConversationShape(
        "OASST messages",
        ("message_id", "text", "role", "replies"),
        best_thread,
        ("parent_id", "lang", "rank"),
        ranked_verdicts,
    ),
    ConversationShape("OpenAI with label", ("messages", "label"), None, (), labelled(_openai), _has_label),
    ConversationShape(
        "ShareGPT with label", ("conversations", "label"), None, (), labelled(_sharegpt), _has_label
    ),
    ConversationShape(
        "prompt, completion and label",
        ("prompt", "completion", "label"),
        None,
        (),
        labelled(_prompt("completion")),
        _has_label,
    ),
)
PLAIN_SHAPES = (
    ConversationShape("OpenAI", ("messages",), _openai),
    ConversationShape("ShareGPT", ("conversations",), _sharegpt),
    ConversationShape(
        "Alpaca", ("instruction", "output"), _instruction("input", "output"), ("input", "history")
    ),
    ConversationShape(
        "GPTeacher", ("instruction", "input", "response"), _instruction("input", "response"), ("history",)
    ),
    ConversationShape(
        "Dolly", ("instruction", "response"), _instruction("context", "response"), ("context", "history")
    ),
    ConversationShape("prompt and completion", ("prompt", "completion"), _prompt("completion")),
    ConversationShape("prompt and response", ("prompt", "response"), _prompt("response")),
    ConversationShape("transcript", ("transcript",), _transcript),
)
CONVERSATION_SHAPES = (*PLAIN_SHAPES, *COMPARISON_SHAPES)


def known_shape(row: Row) -> ConversationShape | None:
    """The shape of a row; None if it is not one of a conversation."""
    # Comparisons have the fields of other shapes, too.
    return next((shape for shape in (*COMPARISON_SHAPES, *PLAIN_SHAPES) if shape.fits(row)), None)


def shape_of(row: Row, where: str) -> ConversationShape:
    """The shape of a file's first row; raises `CamelidError`, which lists the known ones."""
    if (found := known_shape(row)) is not None:
        return found
    known = "; ".join(f"{shape.name}: {shape.layout}" for shape in CONVERSATION_SHAPES)
    shapes = [shape.fields for shape in CONVERSATION_SHAPES]
    hint = "; rows with `text` are for pretraining" if "text" in row else renaming(row, *shapes)
    raise CamelidError(
        f"{where}: the fields {named(row)} are not a known conversation shape{hint}. Known: {known}"
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
    if not isinstance(turns, list):
        raise CamelidError(f"`{name}` is {str(turns)[:60]!r}; it must be a list of objects")
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise CamelidError(f"{name}[{index}] is {shortened(turn)}; it must be an object")
    return turns
