"""Messages with roles: every chat format is read into this type.

Keys that Camelid does not interpret are kept for the chat template: of a message in `Message.extra`, of a row
in `Conversation.extra`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from camelid.base.errors import CamelidError, shortened
from camelid.base.json import NotJSONError, parse

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)
REASONING = ("reasoning_content", "thinking", "reasoning")
"""The keys under which data sets give a message's reasoning; templates read the first, some the second."""
LOSS_KEYS = ("weight", "train", "loss", "trainable", "loss_mask", "loss_scale")
"""Keys of messages and rows with a loss weight: a number from 0, or true and false."""
DEEPEST = 64
"""Most levels of nesting in a row."""
_INTERPRETED = ("role", "content", "tool_calls", "name")


@dataclass(frozen=True)
class Message:
    """One turn: the role and its content, which is None beside tool calls in OpenAI's format.

    extra: further keys for the template, such as `reasoning_content` and `tool_call_id`. keys: the keys of
    the row that the message was read from, in order; a key without a value is null there.
    """

    role: Role
    content: str | None
    tool_calls: tuple[Mapping[str, Any], ...] | None = None
    name: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    keys: tuple[str, ...] | None = field(default=None, compare=False, repr=False)

    @property
    def loss_weight(self) -> float:
        """The loss weight of the message's tokens, if it is the assistant's."""
        return loss_weight(self.extra)

    @property
    def reasoning(self) -> str | None:
        """The reasoning before the content, where the message has it in a key of its own."""
        return next((self.extra[key] for key in REASONING if self.extra.get(key) is not None), None)

    def as_dict(self) -> dict[str, Any]:
        """The message in OpenAI's format: the keys that it was read with, or those that are set."""
        values: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls is not None:
            values["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.name is not None:
            values["name"] = self.name
        values |= self.extra
        return values if self.keys is None else {key: values.get(key) for key in self.keys}


@dataclass(frozen=True)
class Conversation:
    """Messages in order, the tools that the assistant may call, and further variables of the template.

    extra: the keys of the row that are not interpreted, such as `documents`. loss_weight: a factor of the
    loss weight of every message. marker: a text before each of the assistant's answers, also before the one
    that comes next, which is not trained (`text.markers`).
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    loss_weight: float = 1.0
    marker: str = ""

    @classmethod
    def of(cls, *turns: tuple[str, str], system: str | None = None) -> "Conversation":
        """A conversation from (user, assistant) pairs, after an optional system message."""
        head = () if system is None else (Message("system", system),)
        pairs = ((Message("user", question), Message("assistant", answer)) for question, answer in turns)
        return cls(head + tuple(message for pair in pairs for message in pair))

    @classmethod
    def from_messages(cls, messages: Sequence[Mapping[str, Any]]) -> "Conversation":
        """A conversation from messages in OpenAI's format; raises `CamelidError` on bad roles, keys or
        types."""
        return cls(tuple(_message(row, f"messages[{index}]") for index, row in enumerate(messages)))

    def first(self, count: int) -> "Conversation":
        """The first `count` messages, with the same tools and variables."""
        return replace(self, messages=self.messages[:count])

    def as_dicts(self) -> list[dict[str, Any]]:
        """The messages in OpenAI's format."""
        return [message.as_dict() for message in self.messages]


def loss_weight(keys: Mapping[str, Any], where: str = "") -> float:
    """The product of the loss weights that a message or row gives, 1 without any.

    Raises `CamelidError` if one is neither true, false, null nor a finite number from 0.
    """
    product = 1.0
    for name in LOSS_KEYS:
        value = keys.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise CamelidError(
                f"{where}{name} is {shortened(value)}; a loss weight is true, false or a number from 0"
            )
        product *= value
    return product


def leaves(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The strings, numbers and nulls of a nested value, each with its path, such as `tools[0].name`.

    Raises `CamelidError` if it is nested too deeply.
    """
    if depth > DEEPEST:
        raise CamelidError(f"{path[:60]}... is nested more than {DEEPEST} levels deep")
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from leaves(entry, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, entry in enumerate(value):
            yield from leaves(entry, f"{path}[{index}]", depth + 1)
    else:
        yield path, value


def functions(value: Any, where: str) -> tuple[Mapping[str, Any], ...] | None:
    """Tools or tool calls, in OpenAI's form or flat, also as the text of a JSON list; None if there are none.

    Raises `CamelidError` with the key that has a wrong type.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = parse(value)
        except NotJSONError as error:
            raise CamelidError(f"{where} is text that is {error}; it must be a list of objects") from error
    if value is None or value in ("", []):
        return None
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise CamelidError(f"{where} is {_kind(value)}; it must be a list of objects")
    for index, entry in enumerate(value):
        _check_function(entry, f"{where}[{index}]")
    return tuple(value)


def _check_function(entry: Any, where: str) -> None:
    if not isinstance(entry, Mapping):
        raise CamelidError(f"{where} is {_kind(entry)}; it must be an object")
    if "function" in entry:
        entry, where = entry["function"], f"{where}.function"
        if not isinstance(entry, Mapping):
            raise CamelidError(f"{where} is {_kind(entry)}; it must be an object")
    if not isinstance(name := entry.get("name"), str) or not name:
        raise CamelidError(f"{where}.name is {_kind(name)}; it must be the function's name")
    if not isinstance(given := entry.get("arguments"), str | Mapping | None):
        raise CamelidError(f"{where}.arguments is {_kind(given)}; it must be an object, or its JSON text")


def _message(row: Mapping[str, Any], where: str) -> Message:
    role, content, name = row.get("role"), row.get("content"), row.get("name")
    if role not in ROLES:
        raise CamelidError(f"{where}.role is {shortened(role)}; allowed: {', '.join(ROLES)}")
    calls = functions(row.get("tool_calls"), f"{where}.tool_calls")
    extra = {key: value for key, value in row.items() if key not in _INTERPRETED}
    for key in (*REASONING, "tool_call_id"):
        if not isinstance(value := extra.get(key), str | None):
            raise CamelidError(f"{where}.{key} is {_kind(value)}; it must be a string")
    reasons = any(extra.get(key) for key in REASONING)
    if not isinstance(content, str) and (
        content is not None or role != "assistant" or not (calls or reasons)
    ):
        missing = "" if "content" in row else " (there is no such key)"
        raise CamelidError(
            f"{where}.content is {_kind(content)}{missing}; it must be a string; null is for tool calls"
        )
    if not isinstance(name, str | None):
        raise CamelidError(f"{where}.name is {_kind(name)}; it must be a string")
    weight = loss_weight(extra, f"{where}.")
    if weight and role != "assistant" and (given := [key for key in LOSS_KEYS if extra.get(key) is not None]):
        raise CamelidError(
            f"{where}.{given[0]} is {extra[given[0]]!r} in a turn of the {role}, "
            "but only the assistant's turns "
            "are trained; set it to 0, or remove it"
        )
    keys = tuple(key for key in row if key != "tool_calls" or calls or row[key] is None)
    return Message(role, content, calls, name, extra, keys)


def _kind(value: Any) -> str:
    """The type of a value for an error message."""
    return "null" if value is None else type(value).__name__
