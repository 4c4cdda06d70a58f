"""Messages with roles: every chat format is read into this type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from camelid.base.errors import CamelidError

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True)
class Message:
    """One turn: the role and its content."""

    role: Role
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] | None = None
    name: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The message in OpenAI's format, without keys that are not set."""
        fields: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls is not None:
            fields["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.name is not None:
            fields["name"] = self.name
        return fields


@dataclass(frozen=True)
class Conversation:
    """Messages in order, and the tools that the assistant may call."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] | None = None

    @classmethod
    def of(cls, *turns: tuple[str, str], system: str | None = None) -> "Conversation":
        """A conversation from (user, assistant) pairs, after an optional system message."""
        head = () if system is None else (Message("system", system),)
        pairs = ((Message("user", question), Message("assistant", answer)) for question, answer in turns)
        return cls(head + tuple(message for pair in pairs for message in pair))

    @classmethod
    def from_messages(cls, messages: Sequence[Mapping[str, Any]]) -> "Conversation":
        """A conversation from rows in OpenAI's format; raises `CamelidError` on bad roles or keys."""
        return cls(tuple(_message(row, index) for index, row in enumerate(messages)))

    def as_dicts(self) -> list[dict[str, Any]]:
        """The messages in OpenAI's format."""
        return [message.as_dict() for message in self.messages]


def _message(row: Mapping[str, Any], index: int) -> Message:
    role, content = row.get("role"), row.get("content")
    if role not in ROLES:
        raise CamelidError(f"messages[{index}].role is {role!r}; allowed: {', '.join(ROLES)}")
    calls = row.get("tool_calls")
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        raise CamelidError(f"messages[{index}].content is {type(content).__name__}; it must be a string")
    return Message(role, content, tuple(calls) if calls else None, row.get("name"))
