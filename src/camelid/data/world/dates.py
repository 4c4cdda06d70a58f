"""Counting weekdays, months and days of a month, forwards and backwards, one step at a time."""

from camelid.data.world.bible import ALL_NAMES
from camelid.data.world.grammar import Dice, render
from camelid.data.world.lexicon import DAYS, MONTHS
from camelid.data.world.problem import Problem

MONTH_DAYS = dict(zip(MONTHS, (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))

_DAY_AFTER = (
    "Today is {start}. [What|Which] day is it in {count}?"
    "|Today is {start}. [What|Which] day will it be after {count}?"
    "|[What|Which] day comes {count} after {start}?"
    "|{name} has a [party|music lesson|race|riding lesson] {count} after {start}. On which day is it?"
    "|The [market|feast|fair|concert] begins {count} after {start}. On which day is that?"
    "|{name} borrows a [book|kite|drum|ladder] on {start} and brings it back {count} later. "
    "On which day is that?"
    "|{name} leaves on {start} and comes back {count} later. On which day does {name} come back?"
)
_DAY_BEFORE = (
    "Today is {start}. [What|Which] day was it {count} ago?"
    "|[What|Which] day comes {count} before {start}?"
    "|Today is {start}. {name} came {count} ago. On which day did {name} come?"
    "|{name} packs a [bag|basket|box] {count} before {start}. On which day is that?"
    "|The [bread|soup|cake|picture] of {start} was made {count} before. On which day was it made?"
)
_MONTH_AFTER = (
    "It is {start}. [What|Which] month is it in {count}?"
    "|[What|Which] month comes {count} after {start}?"
    "|{name} plants a [tree|rose|bush|tulip] in {start}. It blooms {count} later. In which month is that?"
    "|A [lamb|foal|calf|puppy] is born in {start}. {name} gets it {count} later. In which month is that?"
    "|It is {start}. {name} will visit us in {count}. In which month will {name} come?"
)
_MONTH_BEFORE = (
    "It is {start}. [What|Which] month was it {count} ago?"
    "|[What|Which] month comes {count} before {start}?"
    "|It is {start}. {name} moved here {count} ago. In which month did {name} come?"
    "|The [bridge|house|boat|tower] of {start} was begun {count} before. In which month was it begun?"
)
_DATE_AFTER = (
    "Today is {start}. What is the date in {count}?"
    "|Today is {start}. What date will it be after {count}?"
    "|Which date comes {count} after {start}?"
    "|{name} leaves on {start} and comes back {count} later. On which date does {name} come back?"
    "|It is {start}. The fair is in {count}. What is the date of the fair?"
)


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _counting(dice: Dice, path: list[str], unit: str, word: str, templates: str) -> Problem:
    """Ask for the end of `path`; the steps name and number each of its elements."""
    length = len(path) - 1
    slots = {"start": path[0], "count": _counted(length, unit), "name": dice.pick(ALL_NAMES)}
    steps = [f"{_counted(number, unit)} {word} is {path[number]}." for number in range(1, length + 1)]
    return Problem(render(f"[{templates}]", dice, slots), path[-1], " ".join(steps), length)


def _around(dice: Dice, names: tuple[str, ...], length: int, unit: str, after: str, before: str) -> Problem:
    forwards, at = dice.chance(0.65), dice.below(len(names))
    path = [names[(at + (number if forwards else -number)) % len(names)] for number in range(length + 1)]
    return _counting(dice, path, unit, "later" if forwards else "earlier", after if forwards else before)


def weekdays(dice: Dice, length: int) -> Problem:
    """The day of the week `length` days after or before another."""
    return _around(dice, DAYS, length, "day", _DAY_AFTER, _DAY_BEFORE)


def months(dice: Dice, length: int) -> Problem:
    """The month `length` months after or before another."""
    return _around(dice, MONTHS, length, "month", _MONTH_AFTER, _MONTH_BEFORE)


def dates(dice: Dice, length: int) -> Problem:
    """The date `length` days after another, in a year of 365 days; a third cross a month's end."""
    at = dice.below(len(MONTHS))
    last = MONTH_DAYS[MONTHS[at]]
    day = dice.between(last - length + 1, last) if dice.chance(1 / 3) else dice.between(1, last - length)
    path = []
    for _ in range(length + 1):
        path.append(f"{day} {MONTHS[at]}")
        day += 1
        if day > MONTH_DAYS[MONTHS[at]]:
            day, at = 1, (at + 1) % len(MONTHS)
    return _counting(dice, path, "day", "later", _DATE_AFTER)
