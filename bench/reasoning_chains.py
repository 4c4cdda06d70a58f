"""Chains of thought on sums: checked against the question, and spoiled on purpose.

Pure functions. The question itself gives the right steps, so that no reader has to judge a chain.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from camelid.data.world.grammar import Dice
from camelid.tasks.item import Item

Verdict = Literal["sound", "by chance", "calculator", "symbols", "step missing", "broken", "no answer"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
NEARLY: tuple[Verdict, ...] = ("calculator", "symbols", "step missing")
"""Wrong chains that Wei et al. (arXiv:2201.11903, appendix D.2) call nearly right: 46 % of theirs."""

_EQUATION = re.compile(r"(-?\d+) ([+-]) (-?\d+) = (-?\d+)\.")
_ANSWER = re.compile(r"The answer is (-?\d+)\.")

Equation = tuple[int, str, int, int]


def equations(text: str) -> list[Equation]:
    """Every equation of a chain: left number, sign, right number, result."""
    return [(int(a), sign, int(b), int(c)) for a, sign, b, c in _EQUATION.findall(text)]


def computed(equation: Equation) -> int:
    """What the left side of an equation is."""
    left, sign, right, _ = equation
    return left + right if sign == "+" else left - right


def audit(item: Item, reply: str) -> Verdict:
    """What a chain is, compared with the true steps of its question, after the categories of Wei et al.

    A right answer is sound if every step is the true one, else by chance. Of wrong answers three kinds are
    nearly right: `calculator`, only results are computed wrongly; `symbols`, one step has another number or
    sign than the question; `step missing`, the true steps but one. All others are `broken`.
    """
    found = _ANSWER.search(reply)
    if found is None:
        return "no answer"
    written, true = equations(reply[: found.start()]), equations(item.rationale)
    if found[1] == item.answer:
        return "sound" if written == true else "by chance"
    changes, wanted = _changes(written), _changes(true)
    if changes == wanted:
        return "calculator" if _linked(written, true, found[1]) else "broken"
    if not _computed_rightly(written, true, found[1]):
        return "broken"
    if len(changes) == len(wanted) and sum(a != b for a, b in zip(changes, wanted, strict=True)) == 1:
        return "symbols"
    if any(changes == [*wanted[:at], *wanted[at + 1 :]] for at in range(len(wanted))):
        return "step missing"
    return "broken"


def _changes(steps: Sequence[Equation]) -> list[tuple[str, int]]:
    """What each step adds or takes away."""
    return [(sign, right) for _, sign, right, _ in steps]


def _linked(written: Sequence[Equation], true: Sequence[Equation], answer: str) -> bool:
    """Whether each step goes on from the result before it, and the answer is the last one."""
    before = [true[0][0], *(result for *_, result in written)]
    return all(step[0] == start for step, start in zip(written, before, strict=False)) and answer == str(
        before[-1]
    )


def _computed_rightly(written: Sequence[Equation], true: Sequence[Equation], answer: str) -> bool:
    return _linked(written, true, answer) and all(computed(step) == step[3] for step in written)


def shuffled_steps(item: Item, dice: Dice) -> Item:
    """The item with its steps in another order."""
    steps = _sentences(item.rationale)
    while len(set(steps)) > 1 and (mixed := dice.shuffled(steps)) == steps:
        pass
    return replace(item, rationale=" ".join(mixed if len(set(steps)) > 1 else steps))


def wrong_steps(item: Item, dice: Dice) -> Item:
    """The item with another number in place of every number of its steps; the answer stays right."""
    wrong = re.sub(r"\d+", lambda found: str(_other(int(found[0]), dice)), item.rationale)
    return replace(item, rationale=wrong)


def dots(item: Item) -> Item:
    """The item with a dot for each character of its steps: computation without content (section 3.3)."""
    steps = _sentences(item.rationale)
    return replace(item, rationale=" ".join("." * len(step.replace(" ", "")) for step in steps))


def borrowed_steps(items: Sequence[Item]) -> list[Item]:
    """The items, each with the steps of the next one."""
    after = [*items[1:], items[0]]
    return [replace(item, rationale=other.rationale) for item, other in zip(items, after, strict=True)]


def _sentences(text: str) -> list[str]:
    return re.findall(r"[^.]+\.", text.replace(". ", "."))


def _other(number: int, dice: Dice) -> int:
    """Another number from 0 to 9."""
    return (number + dice.between(1, 9)) % 10
