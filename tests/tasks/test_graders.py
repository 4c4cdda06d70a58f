"""Graders against cases worked by hand, and against the verdicts of published evaluations."""

import gzip
import json
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.base.errors import CamelidError
from camelid.prompting.attempt import ChoiceScore
from camelid.tasks.graders import LENIENT, STRICT, choice, exact, likelihood, numeric, parse_number
from camelid.tasks.item import Item
from camelid.tasks.numbers import plain_numbers, tokens


def verdicts(grades) -> tuple[bool, bool]:
    return grades[STRICT].correct, grades[LENIENT].correct


@pytest.mark.parametrize(
    ("answer", "reply", "strict", "lenient"),
    [
        ("18", "She has 9 * 2 = 18. The answer is 18.", True, True),
        ("18", "... so $18 a day.\n#### 18", True, True),
        ("18", "18", True, True),
        ("18", " $18.00 ", True, True),
        ("18", "She makes 18 dollars", False, True),
        ("18", "The answer is 18 because 2 * 9 = 18 and 3 are left", True, True),
        ("18", "The answer is 3. That is 18 less.", False, True),
        ("18", "The answer is 3. No, the answer is 18.", True, True),
        ("18", "I do not know.", False, False),
        ("18", "", False, False),
        ("1000", "The answer is 1,000.", True, True),
        ("1,000", "The answer is 1000.0", True, True),
        ("40", "The answer is 40%.", True, True),
        ("0.5", "The answer is 1/2.", True, True),
        ("-3", "The answer is -3.", True, True),
        ("3", "5-3", False, False),
        ("3", "The answer (arabic numerals) is:\n\n3", True, True),
        ("7", "The answer is 4/0 or 7", False, False),
        ("2", "The answer is yes", False, False),
    ],
)
def test_numeric(answer: str, reply: str, strict: bool, lenient: bool) -> None:
    assert verdicts(numeric(Item("1", "?", answer), reply)) == (strict, lenient)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234,567.50", Fraction("1234567.5")),
        ("$5", 5),
        ("-$5", -5),
        ("−2", -2),
        (".5", Fraction(1, 2)),
        ("3/4.", Fraction(3, 4)),
        ("12%", 12),
        ("1,00", None),
        ("1/0", None),
        ("five", None),
        ("5 6", None),
        ("", None),
    ],
)
def test_parse_number(text: str, value: object) -> None:
    assert parse_number(text) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12))
def test_every_spelling_of_a_number_is_equal(value: Decimal) -> None:
    item = Item("1", "?", str(value))
    for spelling in (f"{value:,}", f"{value:f}", f"{value:f}0", f"{value:f}."):
        assert verdicts(numeric(item, f"The answer is {spelling}")) == (True, True)
        assert parse_number(spelling) == Fraction(value)


@given(st.text(), st.integers(-99, 99))
def test_strictly_right_is_leniently_right(reply: str, number: int) -> None:
    for grade, item in (
        (numeric, Item("1", "?", str(number))),
        (exact, Item("1", "?", "yes")),
        (choice, Item("1", "?", "b", choices=("a", "b"), lettered=True)),
    ):
        for text in (reply, f"{reply} the answer is {number}", f"{reply}#### yes", f"{reply}#### B."):
            strict, lenient = verdicts(grade(item, text))
            assert lenient or not strict


@pytest.mark.parametrize(
    ("answer", "reply", "strict", "lenient"),
    [
        ("heads", "Heads.", True, True),
        ("heads", '"heads"', True, True),
        ("heads", "Tom flips it. The answer is heads.", True, True),
        ("heads", "The answer is heads. Tails is wrong.", True, True),
        ("heads", "It is heads up.", False, True),
        ("heads", "The coin was heads.\nIt is tails.\nSo tails.", False, False),
        ("heads", "The coin is heads up. Tom flips it: tails up.", False, False),
        ("heads", "Tails first. In the end it is heads up.", False, True),
        ("St. Louis", "The answer is St. Louis.", True, True),
        ("k e g", "The answer is k e g.", True, True),
        ("keg", "kegs", False, False),
        ("no", "nothing", False, False),
        ("+", "", False, False),
        (".", "", False, False),
        ("in the mill", "She is in the mill.", False, True),
    ],
)
def test_exact(answer: str, reply: str, strict: bool, lenient: bool) -> None:
    assert verdicts(exact(Item("1", "?", answer), reply)) == (strict, lenient)


def test_every_alias_is_right() -> None:
    item = Item("1", "?", "December 1972", aliases=("14 December 1972",))
    assert verdicts(exact(item, "14 december 1972.")) == (True, True)


LETTERED = Item("1", "?", "the lake", choices=("a hill", "the lake", "a lake house"), lettered=True)
YES_NO = Item("1", "?", "no", choices=("yes", "no"))


@pytest.mark.parametrize(
    ("item", "reply", "strict", "lenient"),
    [
        (LETTERED, "B", True, True),
        (LETTERED, "(B)", True, True),
        (LETTERED, "B) the lake", True, True),
        (LETTERED, "The answer is (B).", True, True),
        (LETTERED, "the lake", True, True),
        (LETTERED, "B, the lake", True, True),
        (LETTERED, "A, B, or C", False, False),
        (LETTERED, "A hill is no lake, so (B)", False, True),
        (LETTERED, "I think the lake is right", False, True),
        (LETTERED, "Either the lake or a hill", False, False),
        (LETTERED, "The answer is C.", False, False),
        (LETTERED, "D", False, False),
        (YES_NO, "No.", True, True),
        (YES_NO, "No, the coin is tails up.", True, True),
        (YES_NO, "The answer is no.", True, True),
        (YES_NO, "It is not, so no", False, True),
        (YES_NO, "yes and no", False, False),
        (YES_NO, "B", False, False),
        (YES_NO, "", False, False),
    ],
)
def test_choice(item: Item, reply: str, strict: bool, lenient: bool) -> None:
    assert verdicts(choice(item, reply)) == (strict, lenient)


def test_likelihood_under_each_normalisation() -> None:
    item = Item("1", "?", "b", choices=("a", "b", "c"))
    scores = (
        ChoiceScore(-4.0, tokens=2, bytes=10, characters=4, unconditional=-1.0),  # -2 a token, -0.4, -1, -3
        ChoiceScore(-5.0, tokens=5, bytes=5, characters=5, unconditional=-1.5),  # -1 a token, -1, -1, -3.5
        ChoiceScore(
            -6.0, tokens=2, bytes=9, characters=9, unconditional=-5.0
        ),  # -3 a token, -0.67, -0.67, -1
    )
    chosen = {metric: grade.extracted for metric, grade in likelihood(item, scores).items()}
    assert chosen == {
        "accuracy": "a",
        "accuracy_per_token": "b",
        "accuracy_per_byte": "a",
        "accuracy_per_character": "c",
        "accuracy_answer_context": "c",
    }


def test_scores_that_are_no_numbers_stop_the_evaluation() -> None:
    item = Item("7", "?", "b", choices=("a", "b"))
    with pytest.raises(CamelidError, match=r"item 7.*NaN"):
        likelihood(item, [ChoiceScore(float("nan"), 1, 1, 1), ChoiceScore(-1.0, 1, 1, 1)])


def test_items_that_a_grader_cannot_judge_are_named() -> None:
    with pytest.raises(CamelidError, match=r"item 7.*not a number"):
        numeric(Item("7", "?", "blue"), "3")
    with pytest.raises(CamelidError, match=r"item 7.*no choices"):
        choice(Item("7", "?", "blue"), "blue")


@pytest.mark.parametrize(
    "model", ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]
)
def test_numeric_repeats_every_verdict_of_openais_gsm8k_solutions(shared: Path, model: str) -> None:
    path = shared / "data/reasoning/outputs/gsm8k_openai/example_model_solutions.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    ours = [
        numeric(
            Item("1", row["question"], row["ground_truth"].split("\nA: ")[1].strip()),
            row[model]["solution"].replace("\nA: ", "\n#### "),
        )[STRICT].correct
        for row in rows
    ]
    assert len(rows) == 1319
    assert ours == [row[model]["is_correct"] for row in rows]


def published_log(shared: Path, log: str) -> str:
    path = shared / f"data/reasoning/outputs/zero_shot_cot_logs/{log}.log.gz"
    return gzip.decompress(path.read_bytes()).decode()


@pytest.mark.parametrize(
    ("log", "different"),
    [("gsm8k_zero_shot_cot", 16), ("multiarith_zero_shot_cot", 3), ("svamp_zero_shot_cot", 9)],
)
def test_the_first_number_is_the_one_that_the_authors_took(shared: Path, log: str, different: int) -> None:
    """Kojima et al. drop commas, signs before a $ and denominators, and take parts for the whole: "11/12" gave
    11, "4,2" 42, "398-60=338" 398, "5 minutes and 24 seconds" 5."""
    text = published_log(shared, log)
    pairs = re.findall(r"pred_before : (.*?)\npred_after : (.*?)\npred_list", text, re.DOTALL)
    first = [next((each.value for each in tokens(plain_numbers(reply))), None) for reply, _ in pairs]
    assert (
        sum(ours != parse_number(taken) for ours, (_, taken) in zip(first, pairs, strict=True)) == different
    )


@pytest.mark.parametrize(
    ("log", "expected", "grade"),
    [
        ("gsm8k_zero_shot_cot", 42.84, numeric),  # 40.71 is published
        ("multiarith_zero_shot_cot", 79.83, numeric),  # 78.67
        ("coin_flip_zero_shot_cot", 91.40, choice),
    ],
)
def test_graders_reproduce_zero_shot_cot(shared: Path, log: str, expected: float, grade) -> None:
    """Kojima et al.'s logs of text-davinci-002: what stands after the trigger, and the gold answer.

    The published accuracies take the first number, of "42 + 66 = 108" the 42; ours the result.
    """
    text = published_log(shared, log)
    pairs = re.findall(r"pred_before : (.*?)\npred_after : .*?GT : (.*?)\n", text, re.DOTALL)
    choices = ("yes", "no") if grade is choice else None
    items = [Item("1", "?", gold.strip(), choices=choices) for _, gold in pairs]
    grades = [
        grade(item, f"Therefore, the answer is {said}") for item, (said, _) in zip(items, pairs, strict=True)
    ]
    strict = sum(each[STRICT].correct for each in grades) / len(grades)
    assert 100 * strict == pytest.approx(expected, abs=0.1)
