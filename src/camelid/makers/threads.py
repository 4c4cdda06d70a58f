"""Threads as people shared them, as turns of the user and the assistant.

Dumps of shared chats have turns without a role or a text, two turns of one side in a row, answers that come
first, and keys of every kind. What cannot be read is a `DroppedError` with its reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
_ROLES = {
    **dict.fromkeys(("human", "user", "prompter", "you"), USER),
    **dict.fromkeys(
        ("gpt", "chatgpt", "assistant", "bot", "ai", "model", "bing", "bard", "claude"), ASSISTANT
    ),
    "system": SYSTEM,
}
_THREAD, _ROLE, _TEXT = (
    ("conversations", "conversation", "messages", "items"),
    ("from", "role"),
    ("value", "content", "text"),
)


class DroppedError(Exception):
    """A thread that cannot be kept: why, and at which step."""

    def __init__(self, reason: str, step: str = "read"):
        super().__init__(reason)
        self.reason, self.step = reason, step


class Turn(NamedTuple):
    """One turn: its role and its text, empty if it had none."""

    role: str
    text: str


@dataclass(frozen=True)
class Thread:
    """A thread: its id (None if the row has none), its system message, and its turns, user and assistant in
    turn."""

    id: str | None
    system: str
    turns: Sequence[Turn]

    @property
    def text(self) -> str:
        """All turns, one after the other."""
        return "\n".join(turn.text for turn in self.turns)


def thread_of(row: Mapping[str, Any]) -> tuple[Thread, list[str]]:
    """The thread of a row, from its first question to its last answer, and what was left out at its ends.

    Raises `DroppedError` if there are no turns, a turn has neither a known role nor a text, or two turns in a
    row have the same role.
    """
    given = next((row[name] for name in _THREAD if row.get(name) is not None), None)
    if not isinstance(given, list):
        raise DroppedError("no list of turns")
    turns, mended = [_turn(entry) for entry in given], list[str]()
    system = ""
    if turns and turns[0].role == SYSTEM:
        system, turns = turns[0].text, turns[1:]
    if turns and turns[0].role == ASSISTANT:
        mended.append("an answer before the first question left out")
        turns = turns[1:]
    if turns and turns[-1].role == USER:
        mended.append("a question without an answer at the end left out")
        turns = turns[:-1]
    if len(turns) < 2:
        raise DroppedError("no question with an answer")
    for number, turn in enumerate(turns):
        if turn.role == SYSTEM:
            raise DroppedError("a system message in the middle")
        if turn.role != (USER, ASSISTANT)[number % 2]:
            raise DroppedError(
                f"two turns of the {turns[number - 1].role} in a row" if number else "no question"
            )
    name = row.get("id")
    return Thread(None if name is None else str(name), system, turns), mended


def _turn(entry: Any) -> Turn:
    if not isinstance(entry, Mapping):
        raise DroppedError("a turn that is not an object")
    role = next((entry[name] for name in _ROLE if entry.get(name) is not None), None)
    if role is None:
        raise DroppedError("a turn without a role")
    if not isinstance(role, str) or role.strip().lower() not in _ROLES:
        raise DroppedError("a turn of an unknown role")
    text = next((entry[name] for name in _TEXT if entry.get(name) is not None), "")
    if not isinstance(text, str):
        raise DroppedError("a turn whose text is not a string")
    return Turn(_ROLES[role.strip().lower()], text)
