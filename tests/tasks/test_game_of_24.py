"""The game of 24: what counts as a solution, and puzzles of the published file solved by brute force."""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from camelid.base.errors import CamelidError
from camelid.tasks.graders import LENIENT, STRICT
from camelid.tasks.reasoning.game_of_24 import GAME_OF_24, game_of_24
from camelid.tasks.task import Task, load_task


def puzzle(tmp_path: Path, numbers: str = "4 5 6 10") -> Task:
    path = tmp_path / "24.csv"
    path.write_text(f"Rank,Puzzles,Solved rate\n1,{numbers},99%\n")
    return load_task("game_of_24", data=path)


@pytest.mark.parametrize(
    ("reply", "strict", "lenient"),
    [
        ("Answer: (10 - 6) * 5 + 4 = 24", True, True),
        ("Steps:\n10 - 6 = 4 (left: 4 4 5)\n4 * 5 = 20\nAnswer: (10 - 6) * 5 + 4 = 24", True, True),
        ("The answer is (10 - 6) * 5 + 4.", True, True),
        ("24 = (10 - 6) * 5 + 4", True, True),
        ("(10 − 6) × 5 + 4", True, True),
        ("$(10 - 6) \\times 5 + 4 = 24$", True, True),
        ("First this:\n**(10 - 6) * 5 + 4 = 24**\nDone.", False, True),
        ("Answer: 4 * 6 = 24", False, False),
        ("Answer: (10 - 6) * 5 + 4 + 0 = 24", False, False),
        ("Answer: (10 - 6) * 5 + 5 = 24", False, False),
        ("Answer: 10 + 4 * 5 - 6 = 24", True, True),
        ("Answer: 4.5 * 6 - 10 = 24", False, False),
        ("Answer: 24", False, False),
        ("Answer: 45 - 6 - 10 = 24", False, False),
        ("Answer: None", False, False),
        ("", False, False),
    ],
)
def test_solutions(tmp_path: Path, reply: str, strict: bool, lenient: bool) -> None:
    grades = game_of_24(puzzle(tmp_path).items[0], reply)
    assert (grades[STRICT].correct, grades[LENIENT].correct) == (strict, lenient)


@pytest.mark.parametrize(
    "expression",
    ["2 ** 3 * 3 * 1", "2^3 * 3 * 1", "2 * * 3", "1,2 * 3 - 3", "(12) * (3 - 1)", "3 * 2 * 3 + 1 * 6"],
)
def test_what_is_no_solution(tmp_path: Path, expression: str) -> None:
    item = puzzle(tmp_path, "1 2 3 3").items[0]
    assert not game_of_24(item, f"Answer: {expression} = 24")[LENIENT].correct


def test_fractions_are_exact(tmp_path: Path) -> None:
    item = puzzle(tmp_path, "3 3 8 8").items[0]
    assert game_of_24(item, "Answer: 8 / (3 - 8 / 3) = 24")[STRICT].correct
    assert not game_of_24(item, "Answer: 8 / (3 - 3 / 8) = 24")[STRICT].correct
    assert not game_of_24(item, "Answer: 8 / (3 - 3) / 8 = 24")[LENIENT].correct


def test_exemplars_and_rows(tmp_path: Path) -> None:
    for item in GAME_OF_24.exemplars:
        assert game_of_24(item, f"{item.rationale} The answer is {item.answer}.")[STRICT].correct
        assert max(map(int, item.metadata["numbers"].split())) > 13
    for wrong in ("4 5 x 6", "7"):
        with pytest.raises(CamelidError, match=r"24\.csv:2: .*whole numbers such as '4 6 11 11'"):
            puzzle(tmp_path, wrong)


def solutions(terms: list[tuple[Fraction, str]]) -> Iterator[str]:
    """Every expression that makes 24, by brute force over pairs of terms."""
    if len(terms) == 1:
        if terms[0][0] == 24:
            yield terms[0][1]
        return
    for (i, (a, left)), (j, (b, right)) in itertools.permutations(enumerate(terms), 2):
        rest = [term for k, term in enumerate(terms) if k not in (i, j)]
        made = [(a - b, f"({left} - {right})")]
        if i < j:
            made += [(a + b, f"({left} + {right})"), (a * b, f"({left} * {right})")]
        if b:
            made.append((a / b, f"({left} / {right})"))
        for term in made:
            yield from solutions([*rest, term])


def test_the_published_puzzles() -> None:
    path = Path("../shared/data/reasoning/game24/24.csv")
    if not path.exists():
        pytest.skip("the puzzles are not here")
    task = load_task("game_of_24", data=path)
    assert len(task.items) == 1362
    for item in task.items[::20]:
        numbers = item.metadata["numbers"].split()
        found = next(solutions([(Fraction(number), number) for number in numbers]))
        assert game_of_24(item, f"Answer: {found} = 24")[STRICT].correct
        assert not game_of_24(item, f"Answer: {found} + 1 = 24")[LENIENT].correct
