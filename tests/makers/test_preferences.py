"""`camelid make preferences`: several answers to each question, ranked by a reward, as rows for `align`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from camelid.cli.main import main
from camelid.data.read.conversations import Conversations
from camelid.lm.scripted import ScriptedLM

Rows = Callable[[str, list[dict[str, Any]]], str]
Teach = Callable[[Any], ScriptedLM]
ASKED = [{"id": f"q{n}", "prompt": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(4)]
FIRST = ["It is 1.", "It is 9.", "It is 3.", "It is 4."]
SECOND = ["It is 2.", "It is 2.", "It is 3.", ""]
THIRD = ["The answer is 1.", "It is 2.", "It is 3.", "It is 5."]


def made(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def words(rows: Rows, out: Path, reward: str, *more: str) -> list[str]:
    asked = rows("asked.jsonl", ASKED)
    return ["make", "preferences", "m", asked, "--reward", reward, "--samples", "3", "--out", str(out), *more]


def test_answers_are_ranked_by_a_grader_and_read_as_comparisons(
    rows: Rows, taught: Teach, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    taught([*FIRST, *SECOND, *THIRD])
    assert main(words(rows, out, "numeric", "--tries", "1")) == 0
    zero, one, three = made(out)
    assert [(each["content"], each["score"]) for each in zero["answers"]] == [
        ("It is 1.", 1.0),
        ("The answer is 1.", 1.0),
        ("It is 2.", 0.0),
    ]
    assert [each["content"] for each in one["answers"]] == [
        "It is 2.",
        "It is 9.",
    ]  # the same answer counts once
    assert [each["content"] for each in three["answers"]] == ["It is 4.", "It is 5."]  # without the empty one
    assert len({each["seed"] for each in zero["answers"]}) == 3
    assert zero["judge"] == {"name": "numeric", "kind": "grader"}
    assert zero["prompt"] == [{"role": "user", "content": "What is 0 + 1?"}]
    card = json.loads((out / "card.json").read_text())
    assert card["judge"] == zero["judge"]
    assert card["counts"]["dropped"] == {"fewer than two different answers": 1}
    assert card["counts"]["faults"] == {"empty": 1}
    assert "--method dpo" in (page := (out / "report.html").read_text())
    assert "--training.learning-rate 1e-6" in page
    found = [ranked for rankings, _ in Conversations(out).rankings() for ranked in rankings]
    assert [each.scores for each in found] == [(1, 1, 0), (1, 0), (1, 0)]
    assert not found[0].conversations[0].extra


def test_a_function_ranks_and_other_rewards_rank_the_same_answers_again(
    rows: Rows, taught: Teach, tmp_path: Path
) -> None:
    out, file = tmp_path / "out", tmp_path / "rewards.py"
    file.write_text("def short(completion): return -len(completion)\ndef same(completion): return 0\n")
    lm = taught([*FIRST, *SECOND, *THIRD])
    assert main(words(rows, out, "numeric", "--tries", "1")) == 0
    assert main(words(rows, out, f"{file}:short", "--tries", "1")) == 0
    assert len(lm.prompts) == 12  # no question was asked again
    [first] = made(out)
    assert [each["score"] for each in first["answers"]] == [-8, -8, -16]
    assert first["judge"] == {"name": "rewards.py:short", "kind": "function"}
    assert main(words(rows, out, f"{file}:same", "--tries", "1")) == 1


def test_what_cannot_rank_is_refused(rows: Rows, taught: Teach, tmp_path: Path) -> None:
    taught(FIRST)
    assert main(words(rows, tmp_path / "a", "absent.py:f")) == 2
    assert main(words(rows, tmp_path / "b", str(tmp_path / "no-model"))) == 1
    assert main(words(rows, tmp_path / "c", "numeric", "--temperature", "0")) == 2
