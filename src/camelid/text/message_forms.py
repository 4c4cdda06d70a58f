"""The form in which a template reads a message, where data sets write the same in several.

- The reasoning before an answer has three names. transformers gives it to templates as `reasoning_content`
  and as `thinking`; so do we.
- A tool call's arguments are an object in most templates and data sets. OpenAI's wire format and DeepSeek's
  templates have them as text. The template decides: its rendering of a probe must show the arguments as JSON.
- Null is given as null. Where the template fails on it or writes "None", the key is left out, as transformers
  does, and where that fails too, null content is empty.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from camelid.base.errors import CamelidError
from camelid.base.json import NotJSONError, parse
from camelid.text.conversation import REASONING

Messages = list[dict[str, Any]]
Attempt = Callable[[Sequence[Mapping[str, Any]]], str]
"""Renders messages; raises `CamelidError` if the template rejects them."""
_PROBE = {"zqkey": "zqvalue"}
_PROBE_TEXT, _PROBE_REPR = json.dumps(_PROBE), repr(_PROBE)


def rendered_form(messages: Sequence[Mapping[str, Any]], attempt: Attempt) -> Messages:
    """The messages in the form that the template reads; as they are, if it rejects every form.

    Raises `CamelidError` if arguments must be objects and one is not the text of a JSON object.
    """
    named = [_with_reasoning(message) for message in messages]
    calls = any(message.get("tool_calls") for message in named)
    nulls = any(value is None for message in named for value in message.values())
    if not calls and not nulls:
        return named
    for form in _null_forms(named, attempt) if nulls else [named]:
        if calls and (decided := _with_arguments(form, attempt)) is not None:
            return decided
        if not calls and _rendered(form, attempt) is not None:
            return form
    return named


def _with_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message's reasoning under the names that templates read, as transformers gives it."""
    reasoning = next((message[key] for key in REASONING if message.get(key) is not None), None)
    if reasoning is None:
        return dict(message)
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _null_forms(messages: Messages, attempt: Attempt) -> Iterator[Messages]:
    without = [{key: value for key, value in message.items() if value is not None} for message in messages]
    empty = [{"content": "", **message} for message in without]
    if not _writes_none(messages, (without, empty), attempt):
        yield messages
    yield without
    yield empty


def _writes_none(messages: Messages, others: Sequence[Messages], attempt: Attempt) -> bool:
    """Whether the template writes null as the word None, which the other forms do not have."""
    text = _rendered(messages, attempt)
    without = [rendered for form in others if (rendered := _rendered(form, attempt)) is not None]
    return text is not None and any(text.count("None") > other.count("None") for other in without)


def _with_arguments(messages: Messages, attempt: Attempt) -> Messages | None:
    """The messages with arguments as the template writes them as JSON; None if it rejects both forms."""
    as_object = _rendered(_replaced(messages, lambda _, __: _PROBE), attempt)
    as_text = _rendered(_replaced(messages, lambda _, __: _PROBE_TEXT), attempt)
    reads_objects = as_object is not None and "zqvalue" in as_object and _PROBE_REPR not in as_object
    reads_text = as_text is not None and _PROBE_TEXT in as_text
    if reads_objects and not reads_text:
        return _replaced(messages, _as_object)
    if reads_text and not reads_objects:
        return _replaced(messages, _as_text)
    return None if as_object is None and as_text is None else messages


def _replaced(messages: Messages, change: Callable[[Any, str], Any]) -> Messages:
    """The messages with `change(arguments, path)` for the arguments of every call."""
    changed = list(messages)
    for index, message in enumerate(messages):
        if message.get("tool_calls"):
            calls = [
                _call(call, f"messages[{index}].tool_calls[{number}]", change)
                for number, call in enumerate(message["tool_calls"])
            ]
            changed[index] = message | {"tool_calls": calls}
    return changed


def _call(call: Mapping[str, Any], where: str, change: Callable[[Any, str], Any]) -> dict[str, Any]:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _call(call["function"], f"{where}.function", change)}
    if call.get("arguments") is None:
        return dict(call)
    return {**call, "arguments": change(call["arguments"], f"{where}.arguments")}


def _as_object(arguments: Any, where: str) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        value = parse(arguments)
    except NotJSONError as error:
        raise CamelidError(f"{where} is {error}; the chat template writes arguments as an object") from error
    if not isinstance(value, dict):
        raise CamelidError(f"{where} is {arguments[:40]!r}; it must be the text of a JSON object")
    return value


def _as_text(arguments: Any, where: str) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _rendered(messages: Messages, attempt: Attempt) -> str | None:
    try:
        return attempt(messages)
    except CamelidError:
        return None
