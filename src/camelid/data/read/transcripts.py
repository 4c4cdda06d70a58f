r"""Conversations in one text, as Anthropic's HH data has them: "\n\nHuman: Hi\n\nAssistant: Hello"."""

import re
from typing import Any

from camelid.base.errors import CamelidError

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):(?: |(?=\n)|\Z)")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether a text begins with a speaker, as HH's do."""
    return re.match(r"\s*(?:Human|Assistant): ?", text) is not None


def transcript_messages(text: str) -> list[dict[str, Any]]:
    """The messages of a transcript, without the white space around them.

    Turns of one speaker that follow each other become one message, and an assistant's turn without text at
    the end is left out: there the answer comes. Raises `CamelidError` if other text comes first, or another
    turn is empty.
    """
    pieces = _TURN.split(text.strip("\n ") if text.startswith("\n") else text)
    if pieces[0].strip():
        raise CamelidError(f"the transcript begins with {pieces[0][:40]!r}, not with Human: or Assistant:")
    messages = list[dict[str, Any]]()
    turns = list(zip(pieces[1::2], pieces[2::2], strict=True))
    for number, (speaker, said) in enumerate(turns):
        role, content = _ROLES[speaker], said.strip()
        if not content and role == "assistant" and number == len(turns) - 1:
            break
        if not content:
            raise CamelidError(f"turn {number} of the transcript, the {role}'s, is empty")
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += f"\n\n{content}"
        else:
            messages.append({"role": role, "content": content})
    return messages
