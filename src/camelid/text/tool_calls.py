"""Tool calls in a model's answer, read in the form that its own chat template writes them.

The template renders an answer with a known call; what stands before the call's JSON, and the key of its
arguments, is the form. So no list of model families is needed, and a model whose template writes calls in
another way than JSON is known not to be read.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from camelid.base.errors import CamelidError
from camelid.text.chat_template import ChatTemplate
from camelid.text.conversation import Conversation, Message

NAME, ARGUMENTS = "zqname", {"zqkey": "zqvalue"}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "zqdescription",
        "parameters": {"type": "object", "properties": {"zqkey": {"type": "string"}}},
    },
}
_QUESTION = Message("user", "zq")


@dataclass(frozen=True)
class Call:
    """One call of a function; arguments are the text of a JSON object."""

    name: str
    arguments: str


@dataclass(frozen=True)
class CallForm:
    """How calls are written: after `begin`, each a JSON object whose arguments are under `key`.

    Where `begin` is empty, an answer that is nothing but JSON is a call. lead: `begin` with the white space
    up to the JSON; listed: whether that is a list of calls.
    """

    begin: str
    key: str
    lead: str = ""
    listed: bool = False

    @classmethod
    def of(cls, template: ChatTemplate) -> "CallForm":
        """The form of a template; raises `CamelidError` if it shows no tools, or writes calls otherwise."""
        plain, offered = Conversation((_QUESTION,)), Conversation((_QUESTION,), (TOOL,))
        opened = _text(template, offered, opened=True)
        if NAME not in opened or opened == _text(template, plain, opened=True):
            raise CamelidError("this model's chat template does not show tools to it")
        call = {"type": "function", "id": "zqid00000", "function": {"name": NAME, "arguments": ARGUMENTS}}
        answer = Message("assistant", None, ({**call},))
        whole = _text(template, Conversation((_QUESTION, answer), (TOOL,)), opened=False)
        written = whole[len(_shared(opened, whole)) :] if NAME in whole else ""
        for at, value in _values(written):
            found = value[0] if isinstance(value, list) and value else value
            if isinstance(found, dict) and found.get("name") == NAME and ARGUMENTS in found.values():
                key = next(name for name, held in found.items() if held == ARGUMENTS)
                begin = (written[:at].split() or [""])[-1]
                lead = written[written.rindex(begin, 0, at) : at] if begin else ""
                return cls(begin, key, lead, isinstance(value, list))
        raise CamelidError("this model's chat template writes tool calls in a form that is not read here")

    def schema(self, functions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The JSON schema of one call of one of the functions, given by name with the schemas of their
        arguments."""
        root = "#/items" if self.listed else "#"
        calls = [
            {
                "type": "object",
                "properties": {
                    "name": {"const": name},
                    self.key: _moved(arguments, f"{at}/properties/{self.key}"),
                },
                "required": ["name", self.key],
                "additionalProperties": False,
            }
            for index, (name, arguments) in enumerate(functions.items())
            for at in [root if len(functions) == 1 else f"{root}/anyOf/{index}"]
        ]
        call = calls[0] if len(calls) == 1 else {"anyOf": calls}
        return {"type": "array", "items": call, "minItems": 1, "maxItems": 1} if self.listed else call

    def split(self, answer: str) -> tuple[str, tuple[Call, ...]]:
        """An answer's text before its calls, and the calls; all of it is text where there is no right one."""
        content, found, rest = answer.partition(self.begin) if self.begin else ("", "", answer)
        if (self.begin and not found) or (not self.begin and answer.strip()[:1] not in ("{", "[")):
            return answer, ()
        calls = [
            self._call(each)
            for _, value in _values(rest)
            for each in (value if isinstance(value, list) else [value])
        ]
        if not calls or None in calls:
            return answer, ()
        return content.rstrip(), tuple(call for call in calls if call is not None)

    def pending(self, text: str) -> int:
        """How many of the last characters may belong to a call, and are held back in a stream."""
        if not self.begin:
            return len(text) if text.strip()[:1] in ("{", "[", "") else 0
        if (at := text.find(self.begin)) >= 0:
            return len(text) - at
        most = min(len(text), len(self.begin) - 1)
        return next((count for count in range(most, 0, -1) if text.endswith(self.begin[:count])), 0)

    def _call(self, value: Any) -> Call | None:
        if not isinstance(value, Mapping) or not isinstance(name := value.get("name"), str):
            return None
        arguments = value.get(self.key, {})
        if isinstance(arguments, str):
            return Call(name, arguments)
        return (
            Call(name, json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, Mapping) else None
        )


def _moved(schema: Any, to: str) -> Any:
    """A schema whose references to its own parts still hold where it is a part of another one."""
    if isinstance(schema, Mapping):
        return {
            key: to + value[1:]
            if key == "$ref" and isinstance(value, str) and value[:1] == "#"
            else _moved(value, to)
            for key, value in schema.items()
        }
    return [_moved(each, to) for each in schema] if isinstance(schema, list) else schema


def _text(template: ChatTemplate, conversation: Conversation, opened: bool) -> str:
    return "".join(segment.text for segment in template.render(conversation, opened, mask=False))


def _shared(first: str, second: str) -> str:
    """What both texts begin with."""
    count = next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    return first[:count]


def _values(text: str) -> Iterator[tuple[int, Any]]:
    """The JSON objects and lists in a text with their places, from left to right."""
    decoder, at = json.JSONDecoder(), 0
    while places := [place for place in (text.find("{", at), text.find("[", at)) if place >= 0]:
        at = min(places)
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        yield at, value
        at = end
