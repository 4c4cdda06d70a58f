"""Server-sent events as servers write them, and servers that do not stream."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import Answer, Script

from camelid.base.errors import CamelidError
from camelid.lm.interface import Completion
from camelid.lm.remote import RemoteLM
from camelid.lm.sse import Event, events, lines
from camelid.text.conversation import Conversation, Message

HELLO = Conversation((Message("user", "Hello"),))
SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
"""Characters at which `str.splitlines` cuts, besides CR and LF."""


def streamed(lm: RemoteLM, prompt: Any = HELLO) -> tuple[str, Completion]:
    stream = lm.stream(prompt)
    text = ""
    try:
        while True:
            text += next(stream)
    except StopIteration as end:
        return text, end.value


def chunk(delta: Any, reason: str | None = None, **more: Any) -> str:
    choice = {"delta": delta, "finish_reason": reason, **more}
    return "data: " + json.dumps({"choices": [choice]}, ensure_ascii=False) + "\n\n"


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r", "\n"])
@pytest.mark.parametrize("character", SEPARATORS)
def test_only_cr_and_lf_end_a_line(script: Script, character: str, end: str) -> None:
    first = (
        'data: {"choices": [{"delta": {"content": "a'
        + (character if character >= "\x7f" else json.dumps(character)[1:-1])
        + 'b"}}]}'
    )
    last = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}'
    script.answers = [Answer(end.join([": hello", first, last, "data: [DONE]", ""]))]
    assert streamed(RemoteLM(script.url))[0] == f"a{character}b"


@given(st.text(alphabet="ab\r\n\u2028\x85é€", max_size=12), st.integers(1, 5))
def test_lines_do_not_depend_on_the_chunks(text: str, size: int) -> None:
    raw = text.encode()
    found = list(lines(raw[at : at + size] for at in range(0, len(raw), size)))
    expected = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert found == (expected[:-1] if expected[-1] == "" else expected)


def parsed(text: str) -> Iterator[Event]:
    return events([text.encode()])


def test_events_as_the_standard_has_them() -> None:
    assert list(parsed("\ufeffdata: 1\n\n")) == [Event("1")]
    assert list(parsed("event: error\ndata: {\ndata:  }\n\n")) == [Event("{\n }", "error")]
    assert list(parsed("data:1\ndata\n\nid: 3\nretry: 5\n:\n\n")) == [Event("1")]
    assert list(parsed("data: {")) == [Event("{")], "the end of the stream ends an event"
    assert list(parsed('{\n"a": 1}\n')) == [Event('{\n"a": 1}', is_event=False)]


def test_events_of_public_reports() -> None:
    """eventsource-parser#17 (CRLF across chunks), eventsource#326 (CRLF and LF mixed), sseclient#9."""
    split = [b"data: [1,\r\n", b"data: 2,\r", b"data: 3]\r\n", b"\n"]
    assert list(events(split)) == [Event("[1,\n2,\n3]")]
    split[1:2] = [b"data: 2,\r", b"\n"]
    assert list(events(split)) == [Event("[1,\n2,\n3]")]
    assert list(parsed("id: 1\r\ndata: 2\n\n")) == [Event("2")]
    assert list(parsed('data: "a\u2029b"\r\n\r\n')) == [Event('"a\u2029b"')]


@pytest.mark.parametrize(
    ("chunks", "text", "reason"),
    [
        (
            [chunk({"role": "assistant", "content": None}), chunk({"content": "Hi"}), chunk(None, "stop")],
            "Hi",
            "stop",
        ),
        ([chunk({"content": "Hi"}), chunk({}, "length")], "Hi", "length"),
        (
            [chunk({"content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}, "stop")],
            "Hi",
            "stop",
        ),
        (['data: {"choices": [], "usage": {}}\n\n', chunk({"content": "Hi"}, "stop")], "Hi", "stop"),
        (['data: {"choices": null}\n\n', chunk({"content": "Hi"}, "stop")], "Hi", "stop"),
        (['data: {"error": null, "choices": [{"text": "Hi", "finish_reason": "stop"}]}\n\n'], "Hi", "stop"),
        ([chunk({"content": "Hi"}), "data: [DONE]\n\n"], "Hi", "stop"),
        # sglang#3912, ollama#4357: an empty finish reason until the end
        ([chunk({"content": "H"}, ""), chunk({"content": "i"}, ""), chunk({}, "stop")], "Hi", "stop"),
        # litellm-proxy#19, LocalAI#1194: no finish reason at all before the last
        (['data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n', chunk({}, "length")], "Hi", "length"),
        (
            [chunk({"content": "Hi"}, "stop", index=0), chunk({"content": "no"}, "stop", index=1)],
            "Hi",
            "stop",
        ),
        ([chunk({"content": "Hi"}, "max_tokens")], "Hi", "length"),
        (["retry: 3\n\n", "event: message\n" + chunk({"content": "Hi"}, "stop")], "Hi", "stop"),
        (
            [chunk({"reasoning_content": "hm", "content": None}), chunk({"content": "Hi"}, "stop")],
            "Hi",
            "stop",
        ),
    ],
)
def test_what_streams_hold(script: Script, chunks: list[str], text: str, reason: str) -> None:
    script.answers = [Answer("".join(chunks))]
    found, completion = streamed(RemoteLM(script.url))
    assert (found, completion.text, completion.finish_reason) == (text, text, reason)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("reason", [{}, {"finish_reason": "length"}, {"finish_reason": None}])
def test_a_server_that_does_not_stream(script: Script, indent: int | None, reason: dict[str, Any]) -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "a\u2028b"}, **reason}]}
    script.answers = [Answer(json.dumps(whole, indent=indent, ensure_ascii=False))]
    found, completion = streamed(RemoteLM(script.url))
    assert found == "a\u2028b"
    assert completion.finish_reason == (reason.get("finish_reason") or "stop")


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("", "the stream ended before the completion did"),
        (chunk({"content": "a"}), "the stream ended before the completion did"),
        ("<html>\nhello", "the stream ended before the completion did: <html>"),
        ('data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
        ('event: error\ndata: {"message": "out of memory"}\n\n', "out of memory"),
        ("data: {]\n\n", "did not return JSON"),
        (chunk({"content": 5}, "stop"), "the content is not text: 5"),
        (chunk({"content": "a"}, "error"), "broke the completion off"),
        ("data: " + "[" * 100_000 + "\n\n", "did not return JSON"),
        ("data: [1]\n\n", "the stream ended before the completion did"),
    ],
)
def test_streams_that_break(script: Script, answer: str, what: str) -> None:
    script.answers = [Answer(answer)]
    with pytest.raises(CamelidError, match=what):
        streamed(RemoteLM(script.url))
