"""Chat data by shape, and each way in which it can be bad."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from camelid.base.errors import CamelidError
from camelid.data.read.conversations import Conversations
from camelid.text.conversation import Conversation, Message

TALK = Conversation.of(("Hi?", "Hello."), ("Sum 1 2", "3"))
LAST = Conversation.of(("Sum\n\n1 2", "3"))
SHAREGPT = [
    {"from": "human", "value": "Hi?"},
    {"from": "gpt", "value": "Hello."},
    {"from": "human", "value": "Sum 1 2"},
    {"from": "gpt", "value": "3"},
]
SYSTEM = Conversation((Message("system", "Be kind."), *TALK.messages))


def read(tmp_path: Path, *rows: dict[str, Any], skip: bool = False) -> Conversations:
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return Conversations(path, skip)


@pytest.mark.parametrize(
    ("row", "expected", "shape"),
    [
        ({"messages": TALK.as_dicts()}, TALK, "OpenAI"),
        ({"messages": SYSTEM.as_dicts()}, SYSTEM, "OpenAI"),
        ({"conversations": SHAREGPT, "id": "x"}, TALK, "ShareGPT"),
        ({"conversations": SHAREGPT, "system": "Be kind."}, SYSTEM, "ShareGPT"),
        ({"conversations": TALK.as_dicts()}, TALK, "ShareGPT"),
        ({"instruction": "Sum", "input": "1 2", "output": "3"}, LAST, "Alpaca"),
        ({"instruction": "Sum\n\n1 2", "input": "", "output": "3"}, LAST, "Alpaca"),
        ({"instruction": "Sum\n\n1 2", "output": "3"}, LAST, "Alpaca"),
        (
            {"instruction": "Sum 1 2", "output": "3", "history": [["Hi?", "Hello."]], "system": "Be kind."},
            SYSTEM,
            "Alpaca",
        ),
        ({"instruction": "Sum", "input": "1 2", "response": "3"}, LAST, "GPTeacher"),
        ({"instruction": "Sum", "context": "1 2", "response": "3", "category": "x"}, LAST, "Dolly"),
        ({"prompt": "Sum\n\n1 2", "completion": "3"}, LAST, "prompt and completion"),
        ({"prompt": TALK.as_dicts()[:3], "completion": TALK.as_dicts()[3:]}, TALK, "prompt and completion"),
        ({"prompt": "Sum\n\n1 2", "response": "3"}, LAST, "prompt and response"),
    ],
)
def test_every_shape(tmp_path: Path, row: dict[str, Any], expected: Conversation, shape: str):
    conversations = read(tmp_path, row)
    assert [replace(conversation, extra={}) for conversation, _ in conversations] == [expected]
    assert conversations.summary.endswith(f"1 conversations of shape {shape}")


def test_tools_are_kept(tmp_path: Path):
    tool = {"type": "function", "function": {"name": "sum"}}
    calls = {"role": "assistant", "content": None, "tool_calls": [tool]}
    row = {"messages": [{"role": "user", "content": "Sum"}, calls], "tools": [tool]}
    ((conversation, _),) = read(tmp_path, row)
    assert conversation.tools == (tool,)
    assert conversation.messages[1].tool_calls == (tool,)


GOOD = {"messages": TALK.as_dicts()}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"question": "a", "answer": "b"}],
            r":1: the fields `question`, `answer` are not a known conversation shape.*OpenAI",
        ),
        ([{"text": "a"}], "for pretraining"),
        (
            [GOOD, {"conversations": SHAREGPT}],
            r":2: no `messages`; the first row of the file is of shape OpenAI",
        ),
        ([GOOD, {"messages": "a"}], ":2: `messages` is .a.; it must be a list of objects"),
        ([GOOD, {"messages": []}], ":2: the conversation has no messages"),
        ([{"messages": [{"role": "bot", "content": "a"}]}], r":1: messages\[0\]\.role is 'bot'; allowed"),
        ([{"messages": TALK.as_dicts()[:1]}], ":1: no assistant turn"),
        (
            [GOOD, {"messages": [TALK.as_dicts()[0], *TALK.as_dicts()]}],
            r":2: messages\[1\]: two user turns in a row",
        ),
        (
            [{"messages": [*TALK.as_dicts(), {"role": "user", "content": 3}]}],
            r"messages\[4\]\.content is int",
        ),
        (
            [{"messages": [{"role": "assistant", "content": " "}]}],
            r"messages\[0\]: the assistant's answer is empty",
        ),
        ([{"messages": [{"role": "assistant", "content": "\ud800"}]}], "lone surrogate"),
        ([GOOD | {"tools": "sum"}], "tools is text that is not JSON"),
        (
            [{"conversations": [{"from": "alien", "value": "a"}]}],
            r"conversations\[0\]\.from is 'alien'; allowed: human",
        ),
        ([{"conversations": [{"from": "human", "value": None}]}], r"conversations\[0\]\.value"),
        ([{"instruction": 1, "output": "a"}], "`instruction` is int"),
        ([{"instruction": "a", "output": ""}], "answer is empty"),
        ([{"instruction": "a", "output": "b", "history": ["c"]}], "`history` must be"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], message: str):
    with pytest.raises(CamelidError, match=message):
        list(read(tmp_path, *rows))


def test_bad_rows_can_be_skipped_and_are_listed(tmp_path: Path):
    conversations = read(tmp_path, GOOD, {"messages": 1}, GOOD, skip=True)
    assert [where.rpartition(":")[2] for _, where in conversations] == ["1", "3"]
    assert len(conversations.skipped) == 1
    assert conversations.summary.endswith("2 conversations of shape OpenAI, 1 bad rows skipped")


def test_text_is_no_conversation(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Hello?")
    with pytest.raises(CamelidError, match="is text; conversations are rows"):
        Conversations(tmp_path)


@pytest.mark.parametrize(
    ("path", "count", "shape", "skipped"),
    [
        ("alpaca/alpaca_5000.json.gz", 4998, "Alpaca", 2),
        ("lima/lima.json.gz", 1029, "Alpaca", 0),
        ("fastchat/dummy_conversation.json.gz", 500, "ShareGPT", 0),
        ("gpteacher/roleplay.json.gz", 1923, "GPTeacher", 0),
        ("dolly/dolly_hhrlhf_train_small.jsonl.gz", 1000, "prompt and response", 0),
    ],
)
def test_reads_real_rows(shared: Path, path: str, count: int, shape: str, skipped: int):
    conversations = Conversations(shared / "data/instruct" / path, skip_bad_rows=True)
    assert len(list(conversations)) == conversations.count == count
    assert set(conversations.shapes.values()) == {shape}
    assert len(conversations.skipped) == skipped
