"""`camelid make self-instruct`: prompts in order, what is read and what is dropped, resuming."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from camelid.base.errors import CamelidError
from camelid.cli.main import main
from camelid.data.read.conversations import Conversations
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.makers.instances import input_first, kept, output_first
from camelid.makers.instructions import NOT_TEXT_IN_ALPACA, drawback, numbered_instructions, whole_tasks
from camelid.makers.seeds import Instance, read_seeds

Rows = Callable[[str, list[dict[str, Any]]], str]
Teach = Callable[[Any], ScriptedLM]
NOUNS = ["river", "castle", "teapot", "comet", "violin", "desert", "ladder", "pirate", "garden", "rocket"]


def teacher(prompt: Prompt) -> str:
    """Two new instructions a list, of which the second is classification; instances that fit."""
    assert isinstance(prompt, str)
    if prompt.startswith("Come up with a series of tasks"):
        at = sum(map(ord, prompt)) % 97
        first, second = NOUNS[at % 10], NOUNS[at * 7 % 10]
        return (
            f" Compose lullaby number {at} mentioning one {first}\n10. Judge if {second} {at} belongs to "
            f"category {first}:\n11. Draw it for us now please"
        )
    task = prompt.rpartition("Task: ")[2]
    if prompt.startswith("Can the following"):
        return " Yes" if task.startswith("Judge") else " No"
    if prompt.startswith("Given the classification"):
        return "Class label: yes\nThe first one.\nClass label: no\nThe other one."
    return f"Example 1\nFor {task.strip()}\nOutput: Sleep well.\nExample 2\nAgain\nOutput: Good night."


def words_of(out: Path, *more: str) -> list[str]:
    return ["make", "self-instruct", "m", "--out", str(out), "--licence", "MIT", *more]


def made(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def kind_of(prompt: Prompt) -> str:
    return str(prompt).split()[0]


def test_prompts_come_in_order_with_two_of_the_model_and_rows_are_alpaca(
    taught: Teach, tmp_path: Path
) -> None:
    lm = taught(teacher)
    assert main(words_of(tmp_path / "out", "--count", "6", "--batch", "2")) == 0
    kinds = [kind_of(prompt) for prompt in lm.prompts]
    people = {task.instruction.rstrip(":") for task in read_seeds()}
    lists = [str(each) for each in lm.prompts if str(each).startswith("Come up with a series")]
    assert kinds[: len(lists)] == ["Come"] * len(lists)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    labelled = card["classification"]
    assert 0 < labelled < 6
    assert kinds[len(lists) :] == ["Can"] * 6 + ["Given"] * labelled + ["Come"] * (6 - labelled)
    shown = [re.findall(r"^\d+\. (.+)$", text, re.MULTILINE) for text in lists]
    assert [len(each) for each in shown] == [8] * len(lists)
    assert all(text.endswith("\n9.") for text in lists)
    by_people = [sum(line in people for line in each) for each in shown]
    assert by_people[:2] == [8, 8]
    assert set(by_people[2:]) <= {6}
    rows = made(tmp_path / "out")
    assert len(rows) == 12
    outputs = ["yes", "no"] * labelled + ["Sleep well.", "Good night."] * (6 - labelled)
    assert [row["output"] for row in rows] == outputs
    assert rows[0]["instruction"].startswith("Judge if ")
    assert not rows[0]["instruction"].endswith(":")
    assert rows[0]["made"].items() >= {"by": "self-instruct", "teacher": "m", "attempt": 0}.items()
    assert sum(1 for _ in Conversations(tmp_path / "out")) == 12
    assert card["counts"]["dropped"]["not for text"] >= 2
    assert card["diversity"]["verbs"]["judge"]["count"] == labelled
    assert sum(card["overlap_with_seeds"].values()) == card["instructions"] == 6
    assert "Diversity" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("stop", [1, 5, 9, 12])
def test_stopped_anywhere_it_goes_on_to_the_same_rows(taught: Teach, tmp_path: Path, stop: int) -> None:
    whole = taught(teacher)
    assert main(words_of(tmp_path / "whole", "--count", "6", "--batch", "2")) == 0

    def stopping(prompt: Prompt) -> str:
        if len(first.prompts) > stop:
            raise KeyboardInterrupt
        return teacher(prompt)

    first = taught(stopping)
    words = words_of(tmp_path / "out", "--count", "6", "--batch", "2")
    assert main(words) == 130
    assert not (tmp_path / "out" / "rows.jsonl").exists()
    rest = taught(teacher)
    assert main(words) == 0
    assert first.prompts[:stop] + rest.prompts == whole.prompts
    assert made(tmp_path / "out") == made(tmp_path / "whole")


def test_a_teacher_without_ideas_is_stopped_early_with_what_there_is(
    taught: Teach, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def poor(prompt: Prompt) -> str:
        same = " Name the tallest tower of Ghent\n10. Name the tallest tower of Ghent"
        return same if "series of tasks" in str(prompt) else teacher(prompt)

    taught(poor)
    assert main(words_of(tmp_path / "out", "--count", "50", "--window", "20", "--least-kept", "0.1")) == 0
    assert "stopped before 50 instructions: only 1 of the last 20 instructions were kept" in (
        capsys.readouterr().err
    )
    assert len({row["instruction"] for row in made(tmp_path / "out")}) == 1
    taught(lambda _: " Draw a map of the world for me")
    assert main(words_of(tmp_path / "none", "--window", "20")) == 1
    assert "only 0 of the last 20 instructions were kept (not for text 20" in capsys.readouterr().err
    assert not (tmp_path / "none" / "rows.jsonl").exists()


def test_alpaca_asks_for_whole_tasks_in_one_step(taught: Teach, tmp_path: Path) -> None:
    def whole(prompt: Prompt) -> str:
        at = len(lm.prompts)
        return (
            f" Compose lullaby about a{at} b{at} c{at}\n4. Input:\n<noinput>\n4. Output:\nSleep."
            f"\n###\n5. Instruction: Play video {at} of the {NOUNS[at % 10]}\n5. Input:\nx\n5. Output:\ny"
            f"\n###\n6. Instruction: Without an output\n"
            f"\n###\n7. Instruction: Translate d{at} e{at} f{at} into Dutch\n7. Input:\nriver\n"
            "7. Output:\nrivier"
        )

    lm = taught(whole)
    assert main(words_of(tmp_path / "out", "--variant", "alpaca", "--count", "4", "--batch", "1")) == 0
    assert len(lm.prompts) == 2
    assert str(lm.prompts[0]).endswith("###\n4. Instruction:")
    assert str(lm.prompts[0]).count("###") == 4
    rows = made(tmp_path / "out")
    assert [(row["input"], row["output"]) for row in rows] == [("", "Sleep."), ("river", "rivier")] * 2
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["counts"]["dropped"] == {"not for text": 2, "not of the form": 2}


def test_a_list_is_read_and_its_cut_end_left_out() -> None:
    reply = " sort the  names:\n10. Count.\n11 . Ask\nagain"
    assert numbered_instructions(reply, cut=False) == ["Sort the names", "Count.", "Ask again"]
    assert numbered_instructions(reply, cut=True) == ["Sort the names", "Count."]
    assert list(whole_tasks(" A\n4. Input:\n<noinput>\n4. Output:\nB\n###\n5. Instr", cut=True)) == [
        ("A", "", "B")
    ]


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("Count the words", "too short"),
        ("Count the words now", None),
        ("word " * 151, "too long"),
        ("Describe the picture of a cat", "not for text"),
        ("Describe the pictures that you like", "not for text"),
        ("Describe the picturesque town of Ghent", None),
        ("Please GO TO the shop today", "not for text"),
        ("Write a program that sorts numbers", "write a program"),
        ("'Quote' this sentence for me", "does not begin with a letter"),
        ("Überlege dir ein gutes Wort", "does not begin with a letter"),
    ],
)
def test_heuristics(instruction: str, reason: str | None) -> None:
    assert drawback(instruction) == reason
    assert drawback("Play some music for us", NOT_TEXT_IN_ALPACA) == "not for text"
    assert drawback("Play some music for us") is None


def test_instances_are_read_and_dropped_by_the_rules() -> None:
    assert input_first("Output: Paris", cut=False) == [Instance("", "Paris")]
    two = "Example 1\nText: a\nOutput: b\n\nExample 2\nText: c\nOutput: d"
    assert input_first(two, cut=False) == [Instance("Text: a", "b"), Instance("Text: c", "d")]
    assert input_first(two, cut=True) == [Instance("Text: a", "b")]
    assert output_first("Class label: A\nx\ny\nClass label: B\nz", cut=False) == [
        Instance("x\ny", "A"),
        Instance("z", "B"),
    ]
    assert kept([Instance("a", "a"), Instance("b", ""), Instance("c:", "d"), Instance("e", "f")]) == (
        [Instance("e", "f")],
        None,
    )
    assert kept([Instance("a", "b"), Instance("a", "c")]) == ([], "one input with two outputs")
    assert len(kept([Instance(str(n), "x") for n in range(9)])[0]) == 5
    assert kept([]) == ([], "no instance in the reply")


def test_our_seed_tasks_are_175_of_two_kinds_with_an_input_for_each_label() -> None:
    tasks = read_seeds()
    assert len({task.instruction for task in tasks}) == len({task.id for task in tasks}) == 175
    assert sum(task.is_classification for task in tasks) == 25
    assert all(len(task.instances) >= 2 for task in tasks if task.is_classification)
    assert all(each.output for task in tasks for each in task.instances)
    assert not [task.instruction for task in tasks if drawback(task.instruction)]


def test_seed_tasks_with_a_missing_field_are_named(rows: Rows) -> None:
    good = {"id": "a", "instruction": "Add.", "instances": [{"input": "", "output": "3"}]}
    with pytest.raises(CamelidError, match=r"seeds.jsonl:1: a seed task needs 'is_classification', as bool"):
        read_seeds(Path(rows("seeds.jsonl", [good])))
    with pytest.raises(CamelidError, match=r"0 classification tasks; self-instruct needs at least 8"):
        read_seeds(Path(rows("few.jsonl", [{**good, "is_classification": False}])))
