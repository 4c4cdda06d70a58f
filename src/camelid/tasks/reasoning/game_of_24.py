"""The game of 24: four numbers, each used once, make 24 (Yao et al., arXiv:2305.10601, section 4.1)."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from camelid.base.errors import CamelidError
from camelid.prompting.expressions import value_of
from camelid.tasks.graders import TwoWays
from camelid.tasks.item import Grade, Item
from camelid.tasks.item_rows import Row
from camelid.tasks.reading import answer_region, without_markup, without_reasoning
from camelid.tasks.reasoning.cleansing import GAME_OF_24 as PAPERS_READING
from camelid.tasks.reasoning.dataset import Dataset

TARGET = Fraction(24)
QUESTION = "Use the numbers {numbers}, each exactly once, with + - * / and brackets to make 24."
NUMBER_KEYS = ("Puzzles", "numbers", "puzzle", "input")

_NUMBER = re.compile(r"\d*\.?\d+")
_POWER = re.compile(r"\^|\*\s*\*|,")


@TwoWays
def game_of_24(item: Item, reply: str) -> tuple[Grade, Grade]:
    """Whether an expression uses the item's numbers once each and is exactly 24, computed by a parser.

    Strict: the expression after the last marker, or a reply that is one line. Lenient: the last expression in
    the reply. Only + - * / and brackets count; "= 24" may follow or precede.
    """
    reply = without_reasoning(reply).strip()
    region = answer_region(reply)
    place = region if region is not None else reply if "\n" not in reply else ""
    strict = next(_expressions(place), None)
    lines = reversed(reply.splitlines())
    lenient = strict or next((found for line in lines for found in _expressions(line)), None)
    return Grade(strict, _makes_24(item, strict)), Grade(lenient, _makes_24(item, lenient))


def _expressions(line: str) -> Iterator[str]:
    """The sides of equations in a line that are expressions of several numbers."""
    for side in re.split(r"=|→|->", line.replace("\\times", "*").replace("\\div", "/")):
        text = re.sub(r"^.*:", "", _plain(side)).strip().rstrip(".;")
        if len(_NUMBER.findall(text)) > 1 and value_of(text) is not None:
            yield text


def _plain(text: str) -> str:
    """The text without markup, unless its stars are operators."""
    return (
        text.strip("`* ").replace("$", "") if re.search(r"[\d)]\s*\*\s*[\d(]", text) else without_markup(text)
    )


def _makes_24(item: Item, expression: str | None) -> bool:
    if expression is None or _POWER.search(expression):
        return False
    numbers = item.metadata["numbers"].split()
    return sorted(_NUMBER.findall(expression)) == sorted(numbers) and value_of(expression) == TARGET


def _read(row: Row) -> dict[str, Any]:
    key = next((key for key in NUMBER_KEYS if key in row), None)
    if key is None:
        raise KeyError(NUMBER_KEYS[0])
    value = row[key]
    numbers = [str(each) for each in value] if isinstance(value, list) else str(value).split()
    if len(numbers) < 2 or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise CamelidError(f"{key!r} must be whole numbers such as '4 6 11 11', not {value!r}")
    return _fields(numbers)


def _fields(numbers: list[str]) -> dict[str, Any]:
    together = " ".join(numbers)
    return {
        "question": QUESTION.format(numbers=together),
        "answer": "24",
        "metadata": {"numbers": together},
    }


def _solved(numbers: str, steps: str, expression: str, index: int) -> Item:
    fields = {**_fields(numbers.split()), "answer": f"{expression} = 24"}
    return Item(f"own-{index}", rationale=steps, **fields)


GAME_OF_24 = Dataset(
    name="game_of_24",
    version=1,
    read=_read,
    grader=game_of_24,
    source="arXiv:2305.10601; princeton-nlp/tree-of-thought-llm, data/24",
    published="1,362, of which the paper asks 901 to 1,000",
    exemplars=tuple(
        _solved(numbers, steps, expression, index)
        for index, (numbers, steps, expression) in enumerate(
            (
                (
                    "2 4 10 16",
                    "16 + 10 = 26 (left: 2 4 26). 4 / 2 = 2 (left: 2 26). 26 - 2 = 24 (left: 24).",
                    "16 + 10 - 4 / 2",
                ),
                (
                    "3 15 15 27",
                    "15 / 15 = 1 (left: 1 3 27). 3 * 1 = 3 (left: 3 27). 27 - 3 = 24 (left: 24).",
                    "27 - 3 * (15 / 15)",
                ),
                (
                    "1 2 5 14",
                    "5 * 2 = 10 (left: 1 10 14). 10 + 14 = 24 (left: 1 24). 24 * 1 = 24 (left: 24).",
                    "(5 * 2 + 14) * 1",
                ),
                (
                    "1 2 3 18",
                    "2 * 3 = 6 (left: 1 6 18). 6 * 1 = 6 (left: 6 18). 18 + 6 = 24 (left: 24).",
                    "18 + 2 * 3 * 1",
                ),
                (
                    "2 8 16 20",
                    "8 / 2 = 4 (left: 4 16 20). 16 / 4 = 4 (left: 4 20). 20 + 4 = 24 (left: 24).",
                    "20 + 16 / (8 / 2)",
                ),
            )
        )
    ),
    paper=PAPERS_READING,
)
"""Our exemplars have a number above 13, since the file has every solvable puzzle with smaller ones."""
