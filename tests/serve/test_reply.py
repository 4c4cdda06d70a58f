"""Answers taken apart: thoughts, text and calls; a stream adds up to the whole."""

import json

import pytest

from camelid.serve.reply import Parts, Reply, message_of
from camelid.text.tool_calls import Call, CallForm

FORM = CallForm("<call>", "arguments")
CALL = '<call>{"name": "add", "arguments": {"a": 1}}</call>'


@pytest.mark.parametrize(
    ("text", "opened", "parts"),
    [
        ("Hello.", False, Parts("", "Hello.")),
        ("<think>\nHm.\n</think>\n\nHello.", False, Parts("Hm.", "Hello.")),
        ("Hm.</think>Hello.", True, Parts("Hm.", "Hello.")),
        ("<think>still", False, Parts("still", "")),
        ("<thin", False, Parts("", "<thin")),
        ("Use <think> as a tag", False, Parts("", "Use <think> as a tag")),
        (f"<think>x</think>One.\n{CALL}", False, Parts("x", "One.", (Call("add", '{"a": 1}'),))),
        (f"{CALL}\n{CALL}", False, Parts("", "", (Call("add", '{"a": 1}'),) * 2)),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_adds_up(text: str, opened: bool, parts: Parts, size: int) -> None:
    whole = Reply(FORM, thinks=True, opened=opened, text=text)
    assert whole.parts() == parts
    growing, said, calls = (
        Reply(FORM, thinks=True, opened=opened),
        {"reasoning_content": "", "content": ""},
        [],
    )
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    for index, piece in enumerate(pieces):
        delta = growing.delta(piece, ended=index == len(pieces) - 1)
        calls += delta.pop("tool_calls", [])
        for name, words in delta.items():
            said[name] += words
    assert (said["reasoning_content"], said["content"]) == (parts.reasoning, parts.content)
    assert [call["function"] for call in calls] == [
        {"name": call.name, "arguments": call.arguments} for call in parts.calls
    ]


def test_the_message_has_openais_form() -> None:
    message = message_of(Parts("x", "", (Call("add", '{"a": 1}'),)))
    assert (message["content"], message["reasoning_content"]) == (None, "x")
    [call] = message["tool_calls"]
    assert call["type"] == "function"
    assert json.loads(call["function"]["arguments"]) == {"a": 1}
    assert "tool_calls" not in message_of(Parts("", "text"))
