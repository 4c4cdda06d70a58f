"""`camelid make self-chat`: the prompt, where a transcript ends, resuming."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from camelid.cli.main import main
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.makers.self_chat import read_transcript
from camelid.makers.teacher import Reply

Rows = Callable[[str, list[dict[str, Any]]], str]
Teach = Callable[[Any], ScriptedLM]
SEEDS = [{"id": f"s{n}", "question": f"How tall is tree {n}?"} for n in range(4)]


def reply(text: str, cut: bool = False) -> Reply:
    return Reply("s0", 0, 0, text, cut, None, None, 0.0)


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        (
            " Hi\n[|AI|] Hello.\n[|Human|] Why?\n[|AI|] So.\n[|Human|] Thanks, bye",
            ["Hi", "Hello.", "Why?", "So."],
        ),
        ("[|Human|] a\n[|AI|] b\n[|AI|] c", ["a", "b"]),
        (" a\n[|AI|] b\n[|Human|] b\n[|AI|] c", ["a", "b"]),
        (" a\n[|AI|] b\n[|Human|] c\n[|AI|] Hello! How can I help you?", ["a", "b"]),
        (" a\n[|AI|] b\n[|Human|] a\n[|AI|] c", ["a", "b"]),
        (" a\n[|AI|] b\n[|Human|] c\n[|AI|] b", ["a", "b"]),
        (" a\n[|AI|] b\n[|Human|]  \n[|AI|] c", ["a", "b"]),
        (" a\n[|AI|] b\n[|Human|] see [|NAV|]\n[|AI|] c", ["a", "b"]),
        (" a\n[|AI|] b\n[|Human|] c\n[|AI|] I'm sorry, but I cannot say.", ["a", "b"]),
    ],
)
def test_where_a_transcript_ends(text: str, turns: list[str]) -> None:
    assert read_transcript(reply(text)) == (turns, None)


@pytest.mark.parametrize(
    ("text", "cut", "fault"),
    [
        ("nobody answers", False, "no answer in the transcript"),
        (" a\n[|AI|] half of an ans", True, "cut"),
        (" a\n[|AI|]", False, "empty"),
        ("[|AI|] a\n[|Human|] b", False, "one side twice"),
    ],
)
def test_why_a_transcript_has_no_turns(text: str, cut: bool, fault: str) -> None:
    assert read_transcript(reply(text, cut)) == ([], fault)


def transcript(prompt: Prompt) -> str:
    topic = str(prompt).partition("the topic: '")[2].partition("'")[0]
    first = f" {topic}\n[|AI|] About ten metres.\n"
    return f"{first}[|Human|] Is that of '{topic}' usual?\n[|AI|] Yes.\n[|Human|] Bye."


def test_one_prompt_for_each_seed_in_order_and_on_after_a_stop(
    rows: Rows, taught: Teach, tmp_path: Path
) -> None:
    path = rows("seeds.jsonl", SEEDS)

    def stopping(prompt: Prompt) -> str:
        if len(first.prompts) > 2:
            raise KeyboardInterrupt
        return transcript(prompt)

    first, words = taught(stopping), ["make", "self-chat", "m", path, "--licence", "MIT", "--out"]
    assert main([*words, str(tmp_path / "out")]) == 130
    rest = taught(transcript)
    assert main([*words, str(tmp_path / "out")]) == 0
    whole = taught(transcript)
    assert main([*words, str(tmp_path / "whole")]) == 0
    assert first.prompts[:2] + rest.prompts == whole.prompts
    assert [seed["question"] in str(prompt) for seed, prompt in zip(SEEDS, whole.prompts, strict=True)] == [
        True
    ] * 4
    assert all(
        str(prompt).endswith("[|AI|] Hello! How can I help you?\n[|Human|]") for prompt in whole.prompts
    )
    made = [(tmp_path / name / "rows.jsonl").read_text() for name in ("out", "whole")]
    assert made[0] == made[1]
    first_row = json.loads(made[0].splitlines()[0])
    assert [turn["content"] for turn in first_row["messages"]][:2] == [
        SEEDS[0]["question"],
        "About ten metres.",
    ]
    assert [turn["role"] for turn in first_row["messages"]] == ["user", "assistant"] * 2
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["pairs_of_turns"] == {"2": 4}
