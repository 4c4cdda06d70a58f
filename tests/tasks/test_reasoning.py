"""Data sets of questions to reason about, by name."""

import gzip
import json
import re
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError, WrongCall
from camelid.evals.evaluate import evaluate
from camelid.evals.methods import Method
from camelid.lm.interface import Prompt
from camelid.lm.scripted import ScriptedLM
from camelid.prompting.calculator import CALCULATORS
from camelid.prompting.ensembles import WEIGHTINGS
from camelid.recipes.evaluate import CalculatorName, WeightingName
from camelid.tasks.graders import LENIENT, STRICT, letters, numeric, suited
from camelid.tasks.item import Item
from camelid.tasks.reasoning import DATASETS
from camelid.tasks.task import load_task

ROBE = {"question": "A robe takes 2 bolts. How many do 3 take?", "answer": "3*2=<<3*2=6>>6\n#### 6"}
NAMES = {
    "question": 'Take the last letters of each words in "Tom Ann Bo" and concatenate them.',
    "answer": "mno",
}


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_gsm8k_rows_and_own_exemplars(tmp_path: Path) -> None:
    task = load_task("gsm8k", data=written(tmp_path / "test.jsonl", ROBE))
    [item] = task.items
    assert (item.answer, item.rationale) == ("6", "3*2=6")
    lm = ScriptedLM([" 3 * 2 = 6. The answer is 6."])
    evaluation = evaluate(task, Method("chain_of_thought", shots=8).program_for(task), lm)
    assert evaluation.grades(STRICT) == [True]
    [prompt] = lm.prompts
    assert str(prompt).count("\nA:") == 9
    assert str(prompt).startswith("Q: A shelf holds 14 books.")
    assert str(prompt).endswith("\n\nQ: A robe takes 2 bolts. How many do 3 take?\nA:")


@pytest.mark.parametrize("name", DATASETS)
def test_own_exemplars_are_right(name: str) -> None:
    dataset = DATASETS[name]
    for item in dataset.exemplars:
        reply = f"{item.rationale} The answer is {item.answer}."
        assert dataset.grader(item, reply)[STRICT].correct
        if dataset.grader in (numeric, suited, letters):  # the worked steps end in the answer
            assert dataset.grader(item, item.rationale)[LENIENT].correct, item.rationale


def test_tracked_objects_of_own_exemplars() -> None:
    """Each exemplar's swaps, done here, lead to its answer."""
    for item in DATASETS["tracking_shuffled_objects"].exemplars:
        held = dict(re.findall(r"(\w+) has an? ([a-z]+ hat|\w+)", item.question))
        for one, other in re.findall(r"(\w+) and (\w+) (?:swap|trade)", item.question):
            held[one], held[other] = held[other], held[one]
        asked = re.findall(r"At the end, (\w+) has", item.question)
        assert f"{held[asked[0]]}." == item.answer


def test_sums_in_own_exemplars_are_right() -> None:
    texts = [item.rationale for item in DATASETS["gsm8k"].exemplars]
    decomposition = DATASETS["gsm8k"].decomposition
    assert decomposition is not None
    texts += [reply for each in decomposition.solutions for reply in each.replies]
    sums = [match for text in texts for match in re.findall(r"(\d+) ([-+*/]) (\d+) = \$?(\d+)", text)]
    assert len(sums) > 20
    compute = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}
    for left, sign, right, result in sums:
        assert compute[sign](int(left), int(right)) == int(result), (left, sign, right)


def spells(prompt: Prompt) -> str:
    asked = str(prompt).rsplit("Q: ", 1)[1].split("\n")[0].strip('"')
    spelled = "".join(word[-1] for word in asked.split(", "))
    return f' Concatenating leads to "{spelled}". So, "{asked}" outputs "{spelled}".'


def test_last_letters_are_spelled_from_least_to_most(tmp_path: Path) -> None:
    task = load_task("last_letters", data=written(tmp_path / "names.jsonl", NAMES))
    lm = ScriptedLM(spells)
    evaluation = evaluate(task, Method("least_to_most").program_for(task), lm)
    assert evaluation.grades(STRICT) == [True]
    assert [str(prompt).rsplit("Q: ", 1)[1] for prompt in lm.prompts] == [
        '"Tom, Ann"\nA:',
        '"Tom, Ann, Bo"\nA:',
    ]


def test_published_last_letters(tmp_path: Path) -> None:
    path = Path("../shared/data/reasoning/last_letters/last_letters.json")
    if not path.exists():
        pytest.skip("the published last letters are not here")
    task = load_task("last_letters", data=path)
    evaluation = evaluate(task, Method("least_to_most").program_for(task), ScriptedLM(spells))
    # The other 15 names are of two words, such as "Jose Antonio", of which the answer has one letter.
    assert sum(evaluation.grades(STRICT)) == 485
    assert len(task.items) == 500


@pytest.mark.parametrize(
    ("reply", "strict", "lenient"),
    [
        ("The answer is nk.", "nk", "nk"),
        ('The last letter of "Elon" is "n". Concatenating them is "nk".', None, "nk"),
        ('So, "a, b" outputs "nk".', "nk", "nk"),
        ("nk", "nk", "nk"),
        ("n k", None, "k"),
        ('The answer is "N K".', "nk", "nk"),
        ("", None, None),
        ("...", None, None),
    ],
)
def test_letters(reply: str, strict: str | None, lenient: str | None) -> None:
    read = letters.read(Item("1", "q", "nk"), reply)
    assert read == {STRICT: strict, LENIENT: lenient}


def test_reading_does_not_depend_on_the_right_answer() -> None:
    reply = "The answer is 6. Not 7 but 8"
    for answer in ("6", "7", "8"):
        assert numeric.read(Item("1", "q", answer), reply) == {STRICT: "6", LENIENT: "8"}


def test_votes_are_graded_under_each_reading(tmp_path: Path) -> None:
    task = load_task("gsm8k", data=written(tmp_path / "test.jsonl", ROBE))
    replies = ["The answer is 6. But 5", "The answer is 6. Or 4", "I say 4", "4", "The answer is 7. Or 4"]
    program = Method("direct", samples=5).program_for(task)
    evaluation = evaluate(task, program, ScriptedLM(replies), tmp_path / "out")
    # strict: 6, 6, none, 4, 7; lenient: 5, 4, 4, 4, 4
    assert evaluation.grades(STRICT) == [True]
    [record] = evaluation.records
    assert record.grades[LENIENT].extracted == "6"  # the elected reply is right strictly, so leniently too
    again = evaluate(task, program, ScriptedLM([]), tmp_path / "out")
    assert again == evaluation


def test_wrong_calls(tmp_path: Path) -> None:
    data = written(tmp_path / "names.jsonl", {"question": "Take the last letters.", "answer": "x"})
    with pytest.raises(CamelidError, match=r"names\.jsonl:1: .*quotation marks"):
        load_task("last_letters", data=data)
    with pytest.raises(WrongCall, match="pass --data FILE"):
        load_task("gsm8k")
    rows = written(tmp_path / "rows.jsonl", {"question": "q?", "answer": "5"})
    task = load_task(rows)
    with pytest.raises(WrongCall, match="break questions down"):
        Method("least_to_most").program_for(task)
    with pytest.raises(WrongCall, match="temperature above 0"):
        Method("direct", samples=3, temperature=0.0).program_for(task)
    with pytest.raises(WrongCall, match="program that generates"):
        Method("likelihood", samples=3).program_for(task)


def test_the_recipe_names_every_weighting() -> None:
    assert WeightingName.__args__ == WEIGHTINGS  # type: ignore[attr-defined]
    assert CalculatorName.__args__ == CALCULATORS  # type: ignore[attr-defined]


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"question": "q?"}\n'))
    with pytest.raises(CamelidError, match=r"test\.jsonl\.gz:1: not a row of gsm8k"):
        load_task("gsm8k", data=path)
