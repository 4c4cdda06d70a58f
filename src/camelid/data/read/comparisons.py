"""Comparisons: rows that say which of several answers is the better one, or whether an answer is good.

A row is read into verdicts: messages, whether their last answers are good, and how many of the messages are
context that both answers share.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from camelid.base.errors import CamelidError, shortened
from camelid.data.read.rows import Row
from camelid.data.read.transcripts import is_transcript, transcript_messages

Messages = list[dict[str, Any]]
Quality = Literal["good", "bad"]


@dataclass(frozen=True)
class Verdict:
    """A conversation whose answers behind the first `context` messages are good or bad."""

    messages: Messages
    quality: Quality
    context: int


Verdicts = Callable[[Row], list[Verdict]]
"""The verdicts of a row, the good one first; none if the row is a tie."""


def chosen_and_rejected(row: Row) -> list[Verdict]:
    """Two answers to a prompt, or two conversations whose common beginning is the prompt."""
    prompt = _prompt(row)
    sides = [prompt + _messages(row[name], name, bool(prompt)) for name in ("chosen", "rejected")]
    return compared(*sides)


def compared(better: Messages, worse: Messages) -> list[Verdict]:
    """The verdicts on two conversations with a common beginning; raises `CamelidError` if there is none.

    Equal conversations say nothing: they give none.
    """
    if better == worse:
        return []
    context = _common(better, worse)
    if not any(message["role"] == "user" for message in better[:context]):
        raise CamelidError("`chosen` and `rejected` have different prompts; they must answer the same one")
    for name, messages in (("chosen", better), ("rejected", worse)):
        if not any(message["role"] == "assistant" for message in messages[context:]):
            raise CamelidError(f"`{name}` has no answer of its own after the common prompt")
    return [Verdict(better, "good", context), Verdict(worse, "bad", context)]


def labelled(conversation: Callable[[Row], Messages]) -> Verdicts:
    """Reads rows of one conversation and a `label`, true if its last answer is a good one."""

    def read(row: Row) -> list[Verdict]:
        label = {"true": True, "false": False, "1": True, "0": False}.get(str(row.get("label")).lower())
        if label is None:
            raise CamelidError(f"`label` is {shortened(row.get('label'))}; it must be true or false")
        messages = conversation(row)
        return [Verdict(messages, "good" if label else "bad", len(messages) - 1)]

    return read


def two_outputs(row: Row) -> list[Verdict]:
    """AlpacaEval's annotations: `preference` is 1 for the first output, 2 for the second, between: a tie."""
    preference = row["preference"]
    if preference is not None and not isinstance(preference, int | float):
        raise CamelidError(
            f"`preference` is {shortened(preference)}; it must be a number from 1 to 2, or null"
        )
    if preference is None or preference == 1.5:
        return []
    names = ("output_1", "output_2") if preference < 1.5 else ("output_2", "output_1")
    prompt = [{"role": "user", "content": row["instruction"]}]
    better, worse = (prompt + _messages(row[name], name, True) for name in names)
    return compared(better, worse)


def _prompt(row: Row) -> Messages:
    """The prompt that a row gives apart from its answers; empty if the answers contain it."""
    prompt = row.get("prompt")
    if prompt is None and isinstance(row.get("instruction"), str):
        given = row.get("input") or ""
        prompt = row["instruction"] + (f"\n\n{given}" if given else "")
    for name in ("conversations", "messages"):
        prompt = row.get(name) if prompt is None else prompt
    return [] if prompt is None else _messages(prompt, "prompt", False)


def _messages(value: Any, name: str, answers: bool) -> Messages:
    """The messages of a field: a text, a transcript, one message or a list of them; `answers`: a text is one
    of the assistant's."""
    if isinstance(value, str):
        if is_transcript(value):
            return transcript_messages(value)
        return [{"role": "assistant" if answers else "user", "content": value}]
    entries = value if isinstance(value, list) else [value]
    return [_message(entry, f"{name}[{index}]") for index, entry in enumerate(entries)]


SPEAKERS = {"human": "user", "gpt": "assistant"}


def _message(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise CamelidError(f"{where} is {shortened(entry)}; it must be a text or a message")
    if "role" in entry:
        return dict(entry)
    speaker = entry.get("from")
    return {"role": SPEAKERS.get(str(speaker), speaker), "content": entry.get("value")}


def _common(one: Messages, two: Messages) -> int:
    """The number of messages at the beginning that two conversations share."""
    pairs = zip(one, two, strict=False)
    return next(
        (index for index, (left, right) in enumerate(pairs) if left != right), min(len(one), len(two))
    )
