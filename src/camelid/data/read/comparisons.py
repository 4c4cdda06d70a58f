"""Comparisons: rows that say which of several answers is the better one, or whether an answer is good.

A row is read into verdicts: messages, whether their last answers are good, and how many of the messages are
context that both answers share. With two or more ranked answers it can also be read into rankings.
"""

import math
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


@dataclass(frozen=True)
class Ranking:
    """Answers to one prompt with their scores: a higher one is better, equal ones are a tie.

    answers: conversations that share the first `context` messages. rated: whether scores say how much better
    an answer is, not only that it is.
    """

    answers: tuple[Messages, ...]
    scores: tuple[float, ...]
    context: int
    rated: bool = False


Rankings = Callable[[Row], list[Ranking]]
"""The rankings of a row, one for each prompt in it."""
Verdicts = Callable[[Row], list[Verdict]]
"""The verdicts of a row, the good one first; none if the row is a tie."""


def chosen_and_rejected(row: Row) -> list[Verdict]:
    """Two answers to a prompt, or two conversations whose common beginning is the prompt.

    UltraFeedback's rows have the prompt both apart and in the conversations: it is taken once. `question` is
    the prompt of plain answers, in which no user speaks.
    """
    prompt = _prompt(row)
    if not prompt and row.get("question") is not None:
        answers = [one for name in ("chosen", "rejected") for one in _messages(row[name], name, True)]
        if all(one["role"] != "user" for one in answers):
            prompt = _messages(row["question"], "question", False)
    sides = [_messages(row[name], name, bool(prompt)) for name in ("chosen", "rejected")]
    if not all(_begins_with(side, prompt) for side in sides):
        sides = [prompt + side for side in sides]
    return compared(*sides)


def better_and_worse(row: Row) -> list[Verdict]:
    """The two responses to a question in StackLLaMA's data, of which `response_j` is the better one."""
    question = _messages(row["question"], "question", False)
    better, worse = (_messages(row[name], name, True) for name in ("response_j", "response_k"))
    return compared(question + better, question + worse)


def pair_of(row: Row, verdicts: list[Verdict]) -> list[Ranking]:
    """The ranking of a good and a bad answer; `margin`, or `score_chosen` less `score_rejected`, rates it.

    A margin of 0 is a tie, and a negative one contradicts the row.
    """
    if [one.quality for one in verdicts] != ["good", "bad"]:
        return []
    margin = number_in(row, "margin")
    scores = number_in(row, "score_chosen"), number_in(row, "score_rejected")
    if margin is None and scores[0] is not None and scores[1] is not None:
        margin = scores[0] - scores[1]
    if margin is not None and margin < 0:
        raise CamelidError(f"the chosen answer is rated {-margin:g} below the rejected one; swap them")
    answers = tuple(one.messages for one in verdicts)
    return [
        Ranking(answers, (1.0 if margin is None else margin, 0.0), verdicts[0].context, margin is not None)
    ]


def number_in(row: Mapping[str, Any], name: str) -> float | None:
    """A number of a row, None where it has none; raises `CamelidError` for anything else."""
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CamelidError(f"`{name}` is {shortened(value)}; it must be a number")
    return float(value)


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
        if messages[context]["role"] != "assistant":
            raise CamelidError("`chosen` and `rejected` ask different things after a common beginning")
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
    """AlpacaEval's annotations: `preference` is from 1 for the first output to 2 for the second.

    1.5, null and alpaca_eval's older 0 are ties.
    """
    preference = row["preference"]
    number = isinstance(preference, int | float) and not isinstance(preference, bool)
    if preference is None or (number and preference in (0, 1.5)):
        return []
    if not number or not 1 <= preference <= 2:
        raise CamelidError(
            f"`preference` is {shortened(preference)}; it must be a number from 1 to 2, or null"
        )
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


def _begins_with(messages: Messages, prompt: Messages) -> bool:
    """Whether a conversation begins with the prompt, perhaps behind a system message that only it has."""
    if messages[:1] and messages[0]["role"] == "system" and prompt and prompt[0]["role"] != "system":
        messages = messages[1:]
    beginning = messages[: len(prompt)]
    return [(one["role"], one.get("content")) for one in beginning] == [
        (one["role"], one.get("content")) for one in prompt
    ]


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
