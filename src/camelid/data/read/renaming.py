"""What to rename in rows whose fields are not those that a verb reads."""

from collections.abc import Mapping, Sequence
from typing import Any

ALIASES: dict[str, tuple[str, ...]] = {
    "text": ("content", "story", "document", "body", "article", "passage", "raw_content", "page_content",
             "sentence", "review", "code", "markdown", "contents"),
    "messages": ("message", "chat", "dialog", "dialogue", "turns"),
    "conversations": ("conversation",),
    "instruction": ("instructions",),
    "prompt": ("question", "query", "problem", "input", "user", "source", "human"),
    "completion": ("answer", "response", "output", "solution", "assistant", "target", "reply", "gpt"),
    "response": ("answer", "output", "reply"),
    "output": ("answer", "response", "completion"),
    "input": ("source", "question", "prompt", "document", "article", "text"),
    "target": ("answer", "output", "summary", "response", "completion", "label", "translation"),
}  # fmt: skip
"""Names under which published data keeps what the field means."""
MOST_NAMED = 20
"""Fields that a message lists."""


def named(row: Mapping[str, Any]) -> str:
    """The fields of a row, for an error message."""
    fields = [printable(str(field)) for field in row]
    more = f" and {len(fields) - MOST_NAMED} more" if fields[MOST_NAMED:] else ""
    return (", ".join(f"`{field}`" for field in fields[:MOST_NAMED]) or "none") + more


def printable(text: str, most: int = 40) -> str:
    """A name from a file for an error message: shortened, with escapes for what cannot be printed."""
    plain = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text[:most])
    return plain + ("..." if text[most:] else "")


def renaming(row: Mapping[str, Any], *shapes: Sequence[str]) -> str:
    """How renaming fields gives the first of the shapes that it can give; empty if none.

    Fields differ from a shape's in upper case and spaces, or have one of the `ALIASES`.
    """
    for shape in shapes:
        sources = [_source(row, field) for field in shape]
        if all(sources) and len(set(sources)) == len(shape):
            pairs = zip(map(str, sources), shape, strict=True)
            steps = [f"`{source}` to `{field}`" for source, field in pairs if source != field]
            if steps:
                return f"; rename {' and '.join(steps)}"
    return ""


def _source(row: Mapping[str, Any], field: str) -> str | None:
    if field in row:
        return field
    plain = {str(key).strip().lower(): str(key) for key in reversed(list(row))}
    return next((plain[name] for name in (field, *ALIASES.get(field, ())) if name in plain), None)
