"""Replies as models write them: numbers in many spellings, letters, boxes, markup and thoughts."""

from fractions import Fraction
from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.tasks.graders import GRADERS, LENIENT, STRICT, choice, exact, numeric
from camelid.tasks.item import Item
from camelid.tasks.numbers import parse_number
from camelid.tasks.reading import answer_region, regions, without_reasoning

CITIES = ("Paris", "London", "Rome", "Berlin")


def verdicts(grades) -> tuple[bool, bool]:
    return grades[STRICT].correct, grades[LENIENT].correct


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The answer is $9{,}500.", "9500"),
        ("So \\[ \\boxed{8\\,000} \\]", "8000"),
        ("The answer is –5.", "-5"),
        ("The answer is 3 + 4 = 7.", "7"),
        ("The answer is ½", "0.5"),
        ("The answer is 1.2e3", "1200"),
        ("#### 18\n\n#### Note: rounded up in step 2", "18"),
        # thousands
        ("The answer is 12\u202f345.", "12345"),
        ("The answer is 12\u00a0345\u00a0678 people", "12345678"),
        ("The answer is 8'000.", "8000"),
        ("The answer is 1,00,000.", "100000"),
        ("The answer is \\$1{,}234{,}567.", "1234567"),
        # signs
        ("The answer is −5.", "-5"),
        ("The answer is -$5.", "-5"),
        ("The answer is $-5$.", "-5"),
        # calculations
        ("The answer is $3 + $4 = $7.", "7"),
        ("The answer is 3 apples + 4 apples = 7 apples.", "7"),
        ("The answer is 60% of 50 = 30.", "30"),
        ("The answer is 5 × 3 = 15.", "15"),
        ("The answer is 10 - 3 = 7", "7"),
        ("The answer is 2 * (3 + 4) = 14.", "14"),
        ("The answer is 7 = 3 + 4.", "7"),
        ("The answer is 10/4 = 2.5.", "2.5"),
        ("The answer is 3 + 4, which is 7.", "7"),
        ("The answer is x = 7.", "7"),
        ("The answer is 3 \\times 4 = 12.", "12"),
        ("The answer is 5 because 2 + 2 = 4 and one more.", "5"),
        ("The answer is 5 (since 2 + 2 = 4).", "5"),
        ("The answer is 5. Check: 2 + 2 = 4.", "5"),
        # fractions
        ("The answer is 2½.", "2.5"),
        ("The answer is 2 1/2 cups.", "2.5"),
        ("The answer is \\frac{3}{4}.", "0.75"),
        ("The answer is $-\\dfrac{1}{2}$.", "-0.5"),
        ("The answer is \\frac12", "0.5"),
        ("The answer is 3⁄4", "0.75"),
        # powers of ten
        ("The answer is 1.2E+3.", "1200"),
        ("The answer is 5e-1.", "0.5"),
        ("The answer is 1.2 × 10^3.", "1200"),
        ("The answer is $1.2 \\times 10^{3}$.", "1200"),
        ("The answer is 10³.", "1000"),
        # other digits
        ("The answer is １２.", "12"),
        ("The answer is ٣.", "3"),
        # markers and boxes
        ("**The answer is: 18**", "18"),
        ("The answer is **18**.", "18"),
        ("The answer is:\n\n$$\\boxed{18}$$", "18"),
        ("Let \\boxed{3} be. Then \\boxed{18 \\text{ dollars}}", "18"),
        ("\\boxed 18", "18"),
        ("\\boxed{\\frac{1}{2}}", "0.5"),
        ("#### Step 1\nAdd 2.\n#### 18", "18"),
        ("#### Answer: 18", "18"),
        ("### 1\n#### $18", "18"),
        ("The answer is 18. That is the answer is clear.", "18"),
        ("<think>The answer is 12.</think>\nThe answer is 18.", "18"),
        ("The answer is 12, or so I think</think>18", "18"),
        ("[THINK]12[/THINK]#### 18", "18"),
        ("**18**", "18"),
        ("$18$", "18"),
        ("\\(18\\)", "18"),
    ],
)
def test_numbers_right_in_both_readings(reply: str, answer: str) -> None:
    assert verdicts(numeric(Item("1", "?", answer), reply)) == (True, True)


@pytest.mark.parametrize(
    ("reply", "answer", "strict", "lenient"),
    [
        ("<think>Maybe the answer is 12. No.</think>\n\nShe earns $18.", "18", False, True),
        ("<think>Maybe the answer is 12. No.</think>\n\nShe earns $18.", "12", False, False),
        ("<think>the answer is 18", "18", False, False),
        ("The answer is 3 + 4", "3", False, False),
        ("The answer is 3-5", "3", False, False),
        ("pages 3–5", "5", False, False),
        ("The answer is 1e999", "1", False, False),
        ("The answer is " + "9" * 5000, "9", False, False),
        ("The answer is " + "1" * 400, "1" * 400, True, True),
        ("The answer is 0^-1", "0", False, False),
        ("The answer is 10^999", "10", False, False),
        ("The answer is 99^999", "99", False, False),
    ],
)
def test_numbers(reply: str, answer: str, strict: bool, lenient: bool) -> None:
    assert numeric(Item("1", "?", answer), reply)[STRICT].correct == strict
    if len(reply) < 1000:
        assert numeric(Item("1", "?", answer), reply)[LENIENT].correct == lenient


@pytest.mark.parametrize(
    ("text", "value"),
    [("½", Fraction(1, 2)), ("1½", Fraction(3, 2)), ("1 000", 1000), ("1\u202f000", 1000), ("2e", None)],
)
def test_parse_number(text: str, value: object) -> None:
    assert parse_number(text) == value


@given(st.text(alphabet="0123456789.,/^eE×x*+-–=$%½³ \\{}[]()abI#\n", max_size=60))
def test_no_reply_ends_in_a_traceback(reply: str) -> None:
    for text in (reply, f"The answer is {reply}", f"\\boxed{{{reply}"):
        for grader, item in (
            (numeric, Item("1", "?", "7")),
            (exact, Item("1", "?", "seven")),
            (choice, Item("1", "?", "Rome", choices=CITIES, lettered=True)),
        ):
            strict, lenient = verdicts(grader(item, text))
            assert lenient or not strict


@pytest.mark.parametrize(
    ("reply", "letter", "strict"),
    [
        ("The calculated answer is 11.\n\nAnswer seems to be A.\n\nAnswer: A", "A", True),  # openbench#348
        ("So $\\boxed{\\langle H\\rangle \\ll \\Delta E}$.\n\n**Answer: D**", "D", True),  # NeMo-Skills#1526
        ("\\boxed{C} is tempting, but \\boxed{E: A polygenic risk score}", "E", True),  # NeMo Gym#1844
        ("**Antwort:\n\nAntwort: C", "C", False),  # simple-evals#33
        ("Long thoughts.\nANSWER: **A**", "A", True),  # inspect_ai#5055
        ("Long thoughts.\nANSWER: $A$", "A", True),
        ("The answer is B. Note that A is a common distractor.", "B", True),  # omlx#3668
        ("ANSWER IS D. A is incorrect.", "D", True),
        ("The answer is C because I computed the integral.", "C", True),
        ("The answer is B because a car moves.", "B", True),  # lm-eval#4188
        ("I would pick B — a safe choice.", "B", False),
        ("b. 4", "B", True),
        ("answer: (D)", "D", True),  # Ollama-MMLU-Pro#6
        ("The correct answer is:\n\n(E) the last", "E", True),
    ],
)
def test_letters_of_public_reports(reply: str, letter: str, strict: bool) -> None:
    choices = tuple(
        f"choice {word}"
        for word in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
    for count in (5, 10):
        right = choices[ascii_uppercase.index(letter)]
        item = Item("1", "?", right, choices=choices[:count], lettered=True)
        assert verdicts(choice(item, reply)) == (strict, True), count


@pytest.mark.parametrize(
    ("reply", "answer", "strict"),
    [
        ("\\boxed{$9{,}500}", "9500", True),  # opencompass#2647
        ("\\boxed{10,000}", "10000", True),
        (
            "Josh's profit is $200,000 - $130,000 = $70,000.\n\n**$70,000**",
            "70000",
            False,
        ),  # opencompass#2426
        (
            "The final answer is $\\boxed{1\\,234\\text{ m}}$. I hope it is correct.",
            "1234",
            True,
        ),  # lm-eval#1204
        ("**Answer:** 42 apples", "42", True),
        ("Final Answer: $1.5 \\times 10^{3}$", "1500", True),
    ],
)
def test_numbers_of_public_reports(reply: str, answer: str, strict: bool) -> None:
    assert verdicts(numeric(Item("1", "?", answer), reply)) == (strict, True)


BOTH, LENIENTLY, NEITHER = (True, True), (False, True), (False, False)
TEMPLATES = [
    ("The answer is **{L}**.", BOTH),
    ("The answer is {L}.", BOTH),
    ("The answer is ({l})", BOTH),
    ("The answer is {l}.", BOTH),
    ("The answer is {L}: {text}", BOTH),
    ("The answer is {L} {text}", BOTH),
    ("The answer is {L} because it is the capital.", BOTH),
    ("The answer is {L} since nothing else fits.", BOTH),
    ("The answer is:\n\n**{L}. {text}**", BOTH),
    ("The answer is option {L}.", BOTH),
    ("The answer is [{L}].", BOTH),
    ("The answer is `{L}`", BOTH),
    ('The answer is "{L}".', BOTH),
    ("The answer is $\\text{{{L}}}$.", BOTH),
    ("$\\boxed{{{L}}}$", BOTH),
    ("\\boxed{{\\textbf{{({L})}}}}", BOTH),
    ("#### {L}", BOTH),
    ("<think>The answer is (X).</think>{L}", BOTH),
    ("<think>The answer is (X).</think>The answer is {L}.", BOTH),
    ("Option {L} is right.", BOTH),
    ("{L}", BOTH),
    ("{L}.", BOTH),
    ("({L}) {text}", BOTH),
    ("{L}) {text}", BOTH),
    ("{L} - {text}", BOTH),
    ("{L} is right.", BOTH),
    ("({l})", BOTH),
    ("{l}", BOTH),
    ("**{L}**", BOTH),
    ("Of these, {L} fits best.", LENIENTLY),
    ("I would pick {L} here", LENIENTLY),
    ("so {L} it is", LENIENTLY),
    ("So {L} must be right", LENIENTLY),
    ("The capital is ({L}), of course", LENIENTLY),
    ("答案是{L}。", LENIENTLY),
    ("答案是（{L}）", LENIENTLY),
    ("My choice: {L}", LENIENTLY),
    ("The answer is A or B or C or D, who knows", NEITHER),
    ("{L} dog barked at noon", NEITHER),
    ("vitamin-{L} and {L}-list", NEITHER),
]


@pytest.mark.parametrize(("template", "expected"), TEMPLATES)
@pytest.mark.parametrize("index", range(4))
def test_every_letter_is_read_alike(template: str, expected: tuple[bool, bool], index: int) -> None:
    item = Item("1", "?", CITIES[index], choices=CITIES, lettered=True)
    letter = ascii_uppercase[index]
    reply = template.format(L=letter, l=letter.lower(), text=CITIES[index])
    assert verdicts(choice(item, reply)) == expected


@pytest.mark.parametrize("index", range(10))
def test_ten_choices(index: int) -> None:
    """As in MMLU-Pro, where I is a letter, and still a pronoun."""
    words = ("red", "green", "blue", "white", "black", "brown", "pink", "grey", "gold", "teal")
    item = Item("1", "?", words[index], choices=words, lettered=True)
    letter = ascii_uppercase[index]
    for reply in (
        f"The answer is {letter}.",
        f"I think it is ({letter})",
        f"I am sure that {letter} is right",
    ):
        assert choice(item, reply)[LENIENT].correct, reply


def test_articles_and_denied_letters_are_not_choices() -> None:
    item = Item("1", "?", "Rome", choices=CITIES, lettered=True)
    for reply in ("A city in Italy, so (C)", "It is not A but C", "A good guess is (C). A tourist knows."):
        assert choice(item, reply)[LENIENT].extracted == "Rome", reply


@pytest.mark.parametrize(
    ("reply", "rest"),
    [
        ("a<think>b</think>c", "ac"),
        ("b</think>c", "c"),
        ("a<think>b", "a"),
        ("<think>a<think>b</think>c</think>d", "d"),
        ("<|channel|>analysis<|message|>b<|end|><|start|>assistant<|channel|>final<|message|>c", "c"),
        ("◁think▷b◁/think▷c", "c"),
        ("a < b > c", "a < b > c"),
    ],
)
def test_thoughts_are_not_read(reply: str, rest: str) -> None:
    assert without_reasoning(reply) == rest


def test_every_grader_leaves_thoughts_out() -> None:
    for name, grader in GRADERS.items():
        item = Item("1", "?", "7", choices=("7", "8") if name == "choice" else None)
        assert verdicts(grader(item, "<think>8</think>7")) == (True, True), name
        assert [grade.extracted for grade in grader(item, "<think>7").values()] == [None, None], name


def test_regions_come_last_first() -> None:
    reply = "The answer is 1.\n\\boxed{2 {3}}\n#### Note: 4"
    assert [each.text for each in regions(reply)] == ["Note: 4", "2 {3}", "1."]
    assert answer_region(reply) == "2 {3}"
    assert answer_region("no marker") is None


@pytest.mark.parametrize(
    "reply", ["The answer is \\boxed{\\text{Paris}}.", "The answer is **Paris**.", "*Paris*"]
)
def test_markup_around_words(reply: str) -> None:
    assert verdicts(exact(Item("1", "?", "Paris"), reply)) == (True, True)
    assert verdicts(choice(Item("1", "?", "Paris", choices=CITIES), reply)) == (True, True)


def test_answers_with_stars_stay_as_they_are() -> None:
    assert verdicts(exact(Item("1", "?", "a * b"), "The answer is a * b.")) == (True, True)
