"""What is trained of conversations in published templates, written by hand, without markers and with."""

from dataclasses import replace
from pathlib import Path

import pytest

from camelid.text.chat_template import ChatTemplate
from camelid.text.conversation import Conversation, Message

CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "legs", "arguments": {"of": "spider"}}}
TOOL = {"type": "function", "function": {"name": "legs", "description": "d", "parameters": {}}}
JSON = '{"name": "legs", "arguments": {"of": "spider"}'
TALKS = {
    "single": Conversation.of(("Hi", "Hello.")),
    "multi": Conversation.of(("Hi", "Hello."), ("Bye", "See you.")),
    "system": Conversation.of(("Hi", "Hello."), system="Be kind."),
    "tool": Conversation(
        (
            Message("user", "Legs?"),
            Message("assistant", None, (CALL,)),
            Message("tool", "8", extra={"tool_call_id": "abcdefghi"}),
            Message("assistant", "Eight."),
        ),
        (TOOL,),
    ),
}
TRAINED = [
    ("qwen2.5-instruct", "single", ["Hello.<|im_end|>"]),
    ("qwen2.5-instruct", "multi", ["Hello.<|im_end|>", "See you.<|im_end|>"]),
    ("qwen2.5-instruct", "system", ["Hello.<|im_end|>"]),
    (
        "qwen2.5-instruct",
        "tool",
        [f"<tool_call>\n{JSON}}}\n</tool_call><|im_end|>", "Eight.<|im_end|>"],
    ),
    ("qwen3", "single", ["<think>\n\n</think>\n\nHello.<|im_end|>"]),
    ("mistral-7b-instruct-v0.3", "single", [" Hello.</s>"]),
    ("mistral-7b-instruct-v0.3", "multi", [" Hello.</s>", " See you.</s>"]),
    (
        "mistral-7b-instruct-v0.3",
        "tool",
        [f'[TOOL_CALLS] [{JSON}, "id": "abcdefghi"}}]</s>', " Eight.</s>"],
    ),
    ("phi-4-mini-instruct", "multi", ["Hello.<|end|>", "See you.<|end|></s>"]),
    ("phi-4-mini-instruct", "system", ["Hello.<|end|></s>"]),
]


def template(shared: Path, name: str) -> ChatTemplate:
    source = (shared / f"templates/{name}.jinja").read_text(encoding="utf-8")
    return ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}, ("<s>", "</s>"))


@pytest.mark.parametrize(("name", "talk", "trained"), TRAINED)
def test_what_is_trained(shared: Path, name: str, talk: str, trained: list[str]):
    segments = template(shared, name).render(TALKS[talk])
    assert [segment.text for segment in segments if segment.trained] == trained


@pytest.mark.parametrize(("name", "talk", "trained"), [one for one in TRAINED if one[1] != "tool"])
def test_markers_come_before_the_answer_in_training_and_in_use(
    shared: Path, name: str, talk: str, trained: list[str]
):
    chat = template(shared, name)
    marked = replace(TALKS[talk], marker="GPT:")
    segments = chat.render(marked)
    answers = [text.removeprefix("<think>\n\n</think>\n\n").lstrip() for text in trained]
    assert [segment.text for segment in segments if segment.trained] == answers
    asked = chat.render(replace(marked, messages=marked.messages[:-1]), True, mask=False)
    assert asked[-1].text.endswith("GPT:")
    assert [(one.text, one.trained) for one in segments[: len(asked)]] == [
        (one.text, one.trained) for one in asked
    ]
