"""The table of replies read by hand (`extraction.txt`), and that no grader accepts a wrong answer."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camelid.tasks.graders import LENIENT, STRICT, choice, exact, letters, numeric
from camelid.tasks.item import Item
from camelid.tasks.numbers import plain_numbers, tokens

CITIES = ("Paris", "London", "Rome", "Berlin", "Madrid")
TABLE = Path(__file__).with_name("extraction.txt")
ROWS = [
    (number, *map(str.strip, line.split("|", 3)))
    for number, line in enumerate(TABLE.read_text(encoding="utf-8").splitlines(), 1)
    if line and not line.startswith("#")
]


def read(kind: str, reply: str) -> Mapping[str, str | None]:
    """What both readings find, without knowledge of the right answer; a choice by its letter."""
    if kind == "number":
        return numeric.read(Item("1", "?", "1"), reply)
    if kind == "yesno":
        return choice.read(Item("1", "?", "yes", choices=("yes", "no")), reply)
    if kind == "spelled":
        return letters.read(Item("1", "?", "xy"), reply)
    found = choice.read(Item("1", "?", "Paris", choices=CITIES, lettered=True), reply)
    return {way: option and "ABCDE"[CITIES.index(option)] for way, option in found.items()}


def accepts(reply: str, way: str, answer: str) -> bool:
    return exact(Item("1", "?", answer), reply)[way].correct


@pytest.mark.parametrize(
    ("kind", "strict", "lenient", "reply"), [row[1:] for row in ROWS], ids=[f"line {row[0]}" for row in ROWS]
)
def test_every_line_of_the_table(kind: str, strict: str, lenient: str, reply: str) -> None:
    said = reply.replace("⏎", "\n")
    if kind in ("text", "date"):
        for way, wanted in ((STRICT, strict), (LENIENT, lenient)):
            assert accepts(said, way, wanted.removeprefix("!=")) != wanted.startswith("!="), way
    else:
        found = {way: "-" if text is None else text for way, text in read(kind, said).items()}
        assert found == {STRICT: strict, LENIENT: lenient}


def test_the_table_is_large_and_has_every_kind() -> None:
    assert len(ROWS) >= 300
    assert len({row[4] for row in ROWS if row[1] == "number"}) == sum(row[1] == "number" for row in ROWS)
    assert {row[1] for row in ROWS} == {"number", "letter", "yesno", "spelled", "text", "date"}


WHOLE = st.integers(-(10**9), 10**9).map(Fraction)
VALUES = st.one_of(WHOLE, st.integers(-(10**6), 10**6).map(lambda n: Fraction(n, 100)))


def spellings(value: Fraction) -> list[str]:
    """The ways in which people write a number that has at most two decimals."""
    sign, size = "-" if value < 0 else "", abs(value)
    digits = f"{float(size):.2f}".removesuffix(".00")
    whole, _, decimals = digits.partition(".")
    grouped = f"{int(whole):,}" + (f".{decimals}" if decimals else "")
    thin = grouped.replace(",", "\u202f")
    written = [digits, grouped, thin, f"${grouped}", f"{digits}%", f"{digits} km", f"{int(size * 100)}/100"]
    written += [f"{int(size * 100)}e-2", f"{digits} × 10^0", f"\\boxed{{{digits}}}", f"**{grouped}**"]
    return [*(f"{sign}{each}" if each[0] not in "\\*" else each.replace(digits, sign + digits)
              .replace(grouped, sign + grouped) for each in written),
            *([f"negative {digits}", f"\u2212{digits}"] if sign else [])]  # fmt: skip


FRAMES = (
    "The answer is {}.", "So the answer is {}, as shown.", "#### {}", "Answer: {}", "\\boxed{{{}}}",
    "The answer is x = {}.", "The answer is 1 + 1 = 2. No, the answer is {}.", "The answer is not 1, it is {}.",
    "<think>The answer is 1.</think>The answer is {}."
)  # fmt: skip


@given(st.data(), VALUES, VALUES, st.sampled_from(FRAMES))
def test_no_spelling_of_a_wrong_number_is_accepted(data, said: Fraction, right: Fraction, frame: str) -> None:
    """A number is right exactly if it is the right one, however it is written and whatever surrounds it."""
    reply = frame.format(data.draw(st.sampled_from(spellings(said))))
    for answer in {said, right}:
        grades = numeric(Item("1", "?", str(float(answer))), reply)
        assert grades[STRICT].correct == grades[LENIENT].correct == (answer == said), (reply, answer)


PIECES = st.sampled_from(
    ["3", "12", "40", "1,000", "2.5", "1/2", "-7", "$5", "6%", " or ", " and ", " to ", "-", ":", "/", ", ", " + ",
     " - ", "x", " × ", "^", "=", " = ", ".", " ", "not ", "√", "π", " million", "k", "e3", "(", ")", "\n", "**", "B"]
)  # fmt: skip


@given(st.lists(PIECES, min_size=1, max_size=8).map("".join), st.integers(-50, 2000))
def test_a_number_that_no_one_wrote_or_computed_is_never_accepted(said: str, right: int) -> None:
    """What is accepted is a number that stands in the reply in one piece."""
    reply = f"The answer is {said}"
    written = {token.value for token in tokens(plain_numbers(reply))}
    for grade in numeric(Item("1", "?", str(right)), reply).values():
        assert not grade.correct or right in written
        assert grade.extracted is None or Fraction(grade.extracted) in written


@given(st.sampled_from("ABCDE"), st.sampled_from("ABCDE"), st.sampled_from(["or", "and", "/", ", ", " & "]))
def test_no_two_choices_are_one(one: str, other: str, between: str) -> None:
    reply = f"The answer is {one} {between} {other}"
    for city in CITIES:
        if one != other:
            grades = choice(Item("1", "?", city, choices=CITIES, lettered=True), reply)
            assert not grades[STRICT].correct
            assert not grades[LENIENT].correct
