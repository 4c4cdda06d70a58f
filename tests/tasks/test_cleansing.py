"""The readings of papers, case by case as their code decides."""

import json
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError
from camelid.evals.evaluate import evaluate
from camelid.evals.methods import Method
from camelid.lm.scripted import ScriptedLM
from camelid.tasks.graders import STRICT
from camelid.tasks.item import Item
from camelid.tasks.reasoning.cleansing import (
    BIG_BENCH_HARD,
    GAME_OF_24,
    GSM8K_REPLY,
    KOJIMA_LAST_LETTERS,
    KOJIMA_NUMBER,
    KOJIMA_YES_NO,
    OPENAI_GSM8K,
    PAL,
    PAPER,
    PROGRAM_OF_THOUGHTS,
    WANG_NUMBER,
    WANG_TEXT,
    Cleansing,
    kojima_letters,
)
from camelid.tasks.task import load_task

STAGED = "Therefore, the answer (arabic numerals) is"
AMONG = "Therefore, among A through E, the answer is"
FIVE = ("u", "v", "x", "y", "z")


@pytest.mark.parametrize(
    ("cleansing", "gold", "reply", "read", "right"),
    [
        # zero-shot: the first match after the trigger
        (KOJIMA_NUMBER, "42", f"{STAGED} 42 + 66 = 108.", "42", True),
        (KOJIMA_NUMBER, "108", f"{STAGED} 42 + 66 = 108.", "42", False),
        (KOJIMA_NUMBER, "70", f"{STAGED} 70.", "70", True),
        (KOJIMA_NUMBER, "11", f"{STAGED} 11/12", "11", True),
        (KOJIMA_NUMBER, "1080", f"{STAGED} $1,080.", "1080", True),
        (KOJIMA_NUMBER, "1,080", f"{STAGED} $1,080.", "1080", False),
        (KOJIMA_NUMBER, "7.0", f"{STAGED} 7", "7", True),
        (KOJIMA_NUMBER, "7", f"{STAGED} 7.0", "7.0", False),
        (KOJIMA_NUMBER, "5", f"{STAGED} -5", "-5", False),
        (KOJIMA_NUMBER, "5", f"{STAGED} unknown", None, False),
        (KOJIMA_NUMBER, "30", "The answer (arabic numerals) is \n\n30% of 50.", "30", True),
        # few-shot: the first after "The answer is", else the last of all
        (KOJIMA_NUMBER, "9", " 4 + 5 = 9. The answer is 9.\n\nQ: 1 + 1?", "9", True),
        (KOJIMA_NUMBER, "9", " 4 and 5. The answer is 3. No: The answer is 9 or 8.", "9", True),
        (KOJIMA_NUMBER, "9", " 4 plus 5 makes 9.", "9", True),
        (KOJIMA_NUMBER, "9", " 9 is 4 plus 5", "5", False),
        (KOJIMA_NUMBER, "9", " So the answer is 9 and not 8", "8", False),
        # any capital letter, also inside words
        (kojima_letters("E"), "y", f"{AMONG} D.", "D", True),
        (kojima_letters("E"), "u", f"{AMONG} A, B, or D.", "A", True),
        (kojima_letters("E"), "v", f"{AMONG} Between (A) and (B): (A)", "B", True),
        (kojima_letters("C"), "v", "Therefore, among A through C, the answer is D or B", "B", True),
        (kojima_letters("E"), "v", " It is (B). The answer is (C).", "C", False),
        (kojima_letters("E"), "v", " so the answer is (A). Or (B).", "B", True),
        (kojima_letters("E"), "v", f"{AMONG} none", None, False),
        (KOJIMA_YES_NO, "yes", "Therefore, the answer (Yes or No) is Yes.", "yes", True),
        (KOJIMA_YES_NO, "no", 'The answer (Yes or No) is "No": yes', "no", True),
        (KOJIMA_YES_NO, "yes", "Therefore, the answer (Yes or No) is Yes!", None, False),
        (KOJIMA_YES_NO, "no", " Not known. The answer is no.", "no", True),
        (KOJIMA_YES_NO, "no", " yes, or rather no", "no", True),
        (KOJIMA_LAST_LETTERS, "fnel", 'Therefore, the answer is "fnel".', "fnel", True),
        (KOJIMA_LAST_LETTERS, "fnel", "Therefore, the answer is \n\n'f n e l'", "fnel", True),
        (KOJIMA_LAST_LETTERS, "fnel", "Therefore, the answer is FNEL", "FNEL", False),
        (KOJIMA_LAST_LETTERS, "fnel", "Therefore, the answer is ...", None, False),
        (OPENAI_GSM8K, "1,080", "12 * 90 = 1080\n#### 1080", "1080", True),
        (OPENAI_GSM8K, "72", "#### -72", "-72", False),
        (OPENAI_GSM8K, "72", "#### 72.0", "72.0", False),
        (OPENAI_GSM8K, "72", "The answer is 72.", None, False),
        (GSM8K_REPLY, "72", "48 + 24\n#### 72", "72", True),
        (GSM8K_REPLY, "72", " 48 + 24 = 72. The answer is 72.", "72", True),
        (WANG_NUMBER, "9", " 4 + 5 = 9. The answer is $9.00.", "9.00", True),
        (WANG_NUMBER, "1,080", " So the answer is 1080 or 3.", "1080", True),
        (WANG_NUMBER, "9", " 4 + 5 = 9", None, False),
        (WANG_NUMBER, "2 and 3", " The answer is 2 and 3.", "2", False),
        (WANG_TEXT, "yes", " He is. So the answer is Yes.", "Yes", True),
        (WANG_TEXT, "05/01/2021", " The answer is 05/01/2021.\nQ: When?", "05/01/2021", True),
        (WANG_TEXT, "yes", " yes", None, False),
        (PAL, "18.0", "The answer is 18.0004.", "18.0004", True),
        (PAL, "18", "18.002", "18.002", False),
        (PAL, "18", "", None, False),
        # rounded to the fewer decimals of the two
        (PROGRAM_OF_THOUGHTS, "18", "18.0", "18.0", True),
        (PROGRAM_OF_THOUGHTS, "18.0", "18.04", "18.04", True),
        (PROGRAM_OF_THOUGHTS, "18.0", "18.06", "18.06", False),
        (PROGRAM_OF_THOUGHTS, "3.33", "3.3333333333333335", "3.3333333333333335", True),
        (PROGRAM_OF_THOUGHTS, "D", "D", "D", True),
        (PROGRAM_OF_THOUGHTS, "5.0", "nan", "nan", False),
        (PROGRAM_OF_THOUGHTS, "5.0", "inf", "inf", False),
        (PROGRAM_OF_THOUGHTS, "5.0", "None", None, False),
    ],
)
def test_readings_of_papers(
    cleansing: Cleansing, gold: str, reply: str, read: str | None, right: bool
) -> None:
    item = Item("1", "?", gold, choices=FIVE if gold in FIVE else None)
    assert (cleansing.read(item, reply), cleansing.grade(item, reply).correct) == (read, right)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("10 - 6 = 4 (left: 4 4 5)\nAnswer: (4 + (10 - 6)) * (5 - 2) = 24", False),
        ("Answer: 4 * 5 + 10 - 6 = 24", True),
        ("Answer: (4 * 5) + (10 - 6)", True),
        ("answer: 4 * 5 + 10 - 6 = 25", True),  # what it says to be equal to is not read
        ("Answer: 4 * 5 + 10 - 6 + 4 - 4 = 24", False),
        ("Answer: 4 * 5 + 4 = 24", False),
        ("Answer: 45 - 10 - 6 = 24", False),
        ("Answer: __import__('os').system('true') 4 5 6 10", False),
        ("", False),
    ],
)
def test_game_of_24_needs_each_number_once(reply: str, right: bool) -> None:
    assert GAME_OF_24.grade(Item("1", "4 5 6 10", "24"), reply).correct is right


def test_big_bench_hard_wants_the_letter_in_brackets() -> None:
    lettered = Item("1", "?", "v", choices=FIVE, lettered=True)
    assert BIG_BENCH_HARD.grade(lettered, " Because. So the answer is (B).").correct
    assert not BIG_BENCH_HARD.grade(lettered, " So the answer is B.").correct
    assert not BIG_BENCH_HARD.grade(lettered, " So the answer is v.").correct
    assert BIG_BENCH_HARD.grade(
        Item("1", "?", "True", choices=("True", "False")), "So the answer is True."
    ).correct


def test_what_a_model_thinks_is_not_read() -> None:
    item = Item("1", "?", "6")
    assert KOJIMA_NUMBER.grade(item, "<think>The answer is 5.</think> The answer is 6.").correct


def test_a_letter_needs_choices() -> None:
    with pytest.raises(CamelidError, match=r"item 7.*choices"):
        kojima_letters("E").grade(Item("7", "?", "u"), "A")


def test_the_paper_s_reading_stands_beside_ours(tmp_path: Path) -> None:
    row = {"question": "How many?", "answer": "#### 108"}
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps(row))
    task = load_task("gsm8k", data=file)
    lm = ScriptedLM([" Add them up.", " 42 + 66 = 108."])
    evaluation = evaluate(task, Method("chain_of_thought").program_for(task), lm)
    assert (evaluation.grades(STRICT), evaluation.grades(PAPER)) == ([True], [False])
    assert task.read(task.items[0], "The answer is 9.")[PAPER] == "9"
    assert PAPER in [result.metric for result in evaluation.results]


def test_votes_under_the_paper_s_reading(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps({"question": "How many?", "answer": "#### 108"}))
    task = load_task("gsm8k", data=file)
    replies = ["The answer is 42 + 66 = 108.", "The answer is 108.", "The answer is 66 + 42 = 108."]
    program = Method("few_shot", shots=1, samples=3).program_for(task)
    evaluation = evaluate(task, program, ScriptedLM([f" {each}" for each in replies]))
    assert evaluation.records[0].attempt.elected[PAPER] == 0
    assert (evaluation.grades(STRICT), evaluation.grades(PAPER)) == ([True], [False])
