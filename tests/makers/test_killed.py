"""kill -9 in the middle of every maker: the same command asks nothing twice, and comes to the same rows."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from camelid.cli.main import main
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.makers import stage
from camelid.text.conversation import Conversation

Rows = Callable[[str, list[dict[str, Any]]], str]
Teach = Callable[[Any], ScriptedLM]
QUESTIONS = [{"prompt": f"What is {n}?"} for n in range(60)]
MAKERS = {
    "answers": ["--system", "Be brief."],
    "self-chat": ["--turns", "2"],
    "self-instruct": ["--count", "12", "--batch", "2"],
}


def teacher(prompt: Prompt) -> str:
    """A reply that only the prompt decides."""
    if isinstance(prompt, Conversation):
        return f"You asked: {prompt.messages[-1].content} Fine."
    number = sum(map(ord, prompt))
    if prompt.startswith("Come up with a series of tasks"):
        first = f"Compose sonnet {number} with {number * 7 % 991} rhymes"
        return f" {first}\n10. Count the {number} lambs of {number % 97}"
    if prompt.startswith("Can the following"):
        return " No"
    if prompt.startswith("Come up with examples"):
        return f"Output: Done, {number}."
    return f" So {number}?\n[|AI|] Indeed.\n[|Human|] Bye"


def make_slowly(words: list[str]) -> None:
    def slowly(prompt: Prompt) -> str:
        time.sleep(0.02)
        return teacher(prompt)

    stage.open_on = lambda *settings: ScriptedLM(slowly)
    main(words)


@pytest.mark.parametrize("maker", MAKERS)
def test_killed_in_the_middle_it_asks_nothing_twice(
    maker: str, rows: Rows, taught: Teach, tmp_path: Path
) -> None:
    given = [] if maker == "self-instruct" else [rows("asked.jsonl", QUESTIONS)]
    words = ["make", maker, "m", *given, *MAKERS[maker], "--licence", "MIT", "--out"]
    out, whole = tmp_path / "killed", tmp_path / "whole"
    unbroken = taught(teacher)
    assert main([*words, str(whole)]) == 0
    child = multiprocessing.get_context("fork").Process(target=make_slowly, args=([*words, str(out)],))
    child.start()
    replies = out / "replies.jsonl"
    while not replies.exists() or replies.read_bytes().count(b"\n") < 9:
        time.sleep(0.01)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not (out / "rows.jsonl").exists()
    known = replies.read_text().count("\n")
    with replies.open("a") as file:
        file.write('{"id": "asked')  # killed in the middle of a line
    resumed = taught(teacher)
    assert main([*words, str(out)]) == 0
    assert resumed.prompts == unbroken.prompts[known:]
    assert len(resumed.prompts) > 5
    assert (out / "rows.jsonl").read_bytes() == (whole / "rows.jsonl").read_bytes()
    again = taught([])
    assert main([*words, str(out)]) == 0
    assert again.prompts == []
