"""Every way of asking on one page."""

import json
from pathlib import Path

import pytest

from camelid.base.errors import WrongCall
from camelid.evals.methods import Method
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.recipes.evaluate import EvaluateRecipe
from camelid.tasks.task import load_task
from camelid.workflows import ladder

ROWS = [
    {"question": f"Tom has {n} pears and finds 2. How many?", "answer": f"{n} + 2 = {n + 2}.\n#### {n + 2}"}
    for n in range(3)
]


def reasons(prompt: Prompt) -> str:
    """Adds right where steps are shown or asked for, and says 2 otherwise."""
    text = str(prompt)
    count = int(text.rsplit("Tom has ", 1)[1].split()[0]) if "Tom has" in text else 0
    asked_for_steps = "step by step" in text or "so 18 children" in text
    return f" The answer is {count + 2}." if asked_for_steps else " 2"


def test_the_page_compares_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "test.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    lm = ScriptedLM(reasons)
    monkeypatch.setattr(ladder, "open_on", lambda *_: lm)
    recipe = EvaluateRecipe(
        model="scripted", task=("gsm8k",), data=(data,), ladder=True, samples=5, out=tmp_path / "out"
    )
    ladder.evaluate_or_climb(recipe)
    written = json.loads((tmp_path / "out" / "gsm8k.ladder.json").read_text())
    accuracy = {
        (row["way of asking"], row["exemplars"]): row["accuracy"].split()[0] for row in written["rows"]
    }
    assert accuracy == {
        ("direct", "0"): "0.333",
        ("few-shot", "8"): "0.333",
        ("chain of thought", "0"): "1.000",
        ("chain of thought", "8"): "1.000",
        ("self-consistency (5 samples) over chain of thought", "8"): "1.000",
        ("least-to-most", "2"): "0.333",
    }
    programs = [row["program"].removesuffix("@1") for row in written["rows"]]
    assert programs[2:5] == ["chain_of_thought"] * 2 + ["self_consistency_5.chain_of_thought"]
    page = (tmp_path / "out" / "gsm8k.ladder.html").read_text()
    assert "6 ways of asking" in page
    assert "self-consistency (5 samples) over chain of thought" in page
    answers = (tmp_path / "out" / "answers.html").read_text()
    names = ("direct", "self-consistency (5 samples) over chain of thought, 8 exemplars", "least-to-most")
    assert all(f'"name": "gsm8k, {name}' in answers for name in names)
    asked = len(lm.prompts)
    ladder.evaluate_or_climb(recipe)
    assert len(lm.prompts) == asked, "nothing is asked twice"


def test_exemplars_of_a_file_are_climbed(tmp_path: Path) -> None:
    data, solved = tmp_path / "test.jsonl", tmp_path / "solved.jsonl"
    data.write_text('{"question": "Red?", "answer": "yes"}\n')
    rows = [{"question": f"Blue {n}?", "answer": "no", "rationale": "It is not."} for n in range(3)]
    solved.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task, settings = load_task(data), Method(exemplars=solved)
    climbed = [(each.program, each.shots) for each in ladder.rungs(task, settings)]
    assert climbed == [
        ("direct", 0), ("few_shot", 3), ("chain_of_thought", 0), ("chain_of_thought", 3),
        ("chain_of_thought", 3)
    ]  # fmt: skip
    solved.write_text(
        '{"question": "Blue?", "answer": "no"}\n'
    )  # without worked steps there is nothing to show
    climbed = [(each.program, each.shots) for each in ladder.rungs(task, settings)]
    assert climbed == [("direct", 0), ("few_shot", 1), ("chain_of_thought", 0), ("chain_of_thought", 0)]


def test_what_the_ladder_chooses_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongCall, match="chooses the programs itself"):
        ladder.evaluate_or_climb(
            EvaluateRecipe(model="m", task=("gsm8k",), program="direct", ladder=True, out=tmp_path)
        )


def test_counts_of_votes() -> None:
    assert ladder._counts(1) == [1]
    assert ladder._counts(4) == [1, 2, 4]
    assert ladder._counts(40) == [1, 2, 5, 10, 20, 40]
