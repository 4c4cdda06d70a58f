"""An answer taken apart: thoughts, text and tool calls, whole or as it grows in a stream."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from camelid.text.tool_calls import Call, CallForm

THINK, THOUGHT = "<think>", "</think>"
Shape = dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """What an answer has been taken apart into."""

    reasoning: str
    content: str
    calls: tuple[Call, ...] = ()


@dataclass
class Reply:
    """The text of one answer so far.

    form: how the model writes tool calls, None if it was given no tools; thinks: whether its template marks
    thoughts; opened: whether the prompt has begun them. `delta` gives what is new since its last call.
    """

    form: CallForm | None = None
    thinks: bool = False
    opened: bool = False
    text: str = ""
    _said: Parts = field(default=Parts("", ""))

    def parts(self, ended: bool = True) -> Parts:
        """The answer as far as it is certain; all of it once it has ended."""
        reasoning, content = self._thoughts(ended) if self.thinks else ("", self.text)
        if self.form is None:
            return Parts(reasoning, content)
        if ended:
            return Parts(reasoning, *self.form.split(content))
        certain = content[: len(content) - self.form.pending(content)]
        return Parts(reasoning, certain.rstrip())

    def delta(self, piece: str, ended: bool) -> Shape:
        """What a piece of text adds, in the form of a stream's `delta`; empty if nothing is certain yet."""
        self.text += piece
        now, before = self.parts(ended), self._said
        self._said = now
        added = {
            "reasoning_content": now.reasoning[len(before.reasoning) :],
            "content": now.content[len(before.content) :],
        }
        delta: Shape = {name: text for name, text in added.items() if text}
        if now.calls:
            delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(calls_of(now))]
        return delta

    def _thoughts(self, ended: bool) -> tuple[str, str]:
        """The thoughts, and the text after them; without their line breaks."""
        text = self.text.lstrip()
        if not self.opened and not text.startswith(THINK):
            waits = not ended and THINK.startswith(text)
            return "", "" if waits else self.text
        thoughts, closed, content = text.removeprefix(THINK).partition(THOUGHT)
        if not closed and not ended:
            held = (count for count in range(len(THOUGHT) - 1, 0, -1) if thoughts.endswith(THOUGHT[:count]))
            thoughts = thoughts[: len(thoughts) - next(held, 0)]
        return thoughts.strip(), content.lstrip("\n")


def calls_of(parts: Parts) -> list[Shape]:
    """Tool calls in OpenAI's form."""
    return [
        {
            "id": f"call_{secrets.token_hex(8)}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in parts.calls
    ]


def message_of(parts: Parts) -> Shape:
    """The assistant's message in OpenAI's form; without text beside tool calls its content is null."""
    message: Shape = {"role": "assistant", "content": parts.content, "refusal": None}
    if parts.reasoning:
        message["reasoning_content"] = parts.reasoning
    if parts.calls:
        message |= {"content": parts.content or None, "tool_calls": calls_of(parts)}
    return message
