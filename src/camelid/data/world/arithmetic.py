"""Word problems within twenty: things that come and go, differences, and equal groups."""

from camelid.data.world.bible import ALL_NAMES
from camelid.data.world.grammar import Dice, render
from camelid.data.world.lexicon import COUNTED
from camelid.data.world.problem import Problem

HIGHEST = 20

_START = (
    "{name} has {count} {things}.|There are {count} {things} in the basket of {name}."
    "|{name} carries {count} {things} in a bag.|At first, {name} has {count} {things}."
)
_MORE = (
    "{name} finds {count} more.|{name} gets {count} more from {other}.|{name} buys {count} more."
    "|Then {other} gives {name} {count} more.|Then {count} more are added."
)
_LESS = (
    "{name} gives {count} to {other}.|{name} loses {count} of them.|{name} sells {count} of them."
    "|Then {count} of them are gone.|{other} takes {count} of them."
)
_HOW_MANY = (
    "How many {things} does {name} have now?|How many {things} are there now?"
    "|How many {things} does {name} have in the end?"
)
_TWO_OWNERS = (
    "{name} has {more} {things} and {other} has {less}.|{name} has {more} {things}. "
    "{other} has {less} {things}."
    "|{name} finds {more} {things}. {other} finds {less}."
)
_GROUPS = (
    "There are {groups} {holders}. [Each holds|In each are] {size} {things}."
    "|{name} has {groups} {holders} with {size} {things} in each."
    "|{name} puts {size} {things} into each of {groups} {holders}."
    "|{name} buys {groups} {holders} of {things}. There are {size} in each."
)
_HOLDERS = ("boxes", "bags", "baskets", "bowls", "jars", "rows", "drawers")


def _people(dice: Dice) -> dict[str, str]:
    name, other = dice.sample(ALL_NAMES, 2)
    return {"name": name, "other": other, "things": dice.pick(COUNTED)}


def sums(dice: Dice, length: int) -> Problem:
    """`length` events add to or take from what somebody has; every intermediate number is within 1 to 20."""
    slots = _people(dice)
    total = dice.between(2, 12)
    told = [render(f"[{_START}]", dice, {**slots, "count": str(total)})]
    steps = []
    for _ in range(length):
        adds = total < HIGHEST and (total == 1 or dice.chance(0.5))
        change = dice.between(1, min(9, HIGHEST - total) if adds else min(9, total - 1))
        told.append(render(f"[{_MORE if adds else _LESS}]", dice, {**slots, "count": str(change)}))
        result = total + change if adds else total - change
        steps.append(f"{total} {'+' if adds else '-'} {change} = {result}.")
        total = result
    question = render(f"[{_HOW_MANY}]", dice, slots)
    return Problem(" ".join((*told, question)), str(total), " ".join(steps), length)


def two_owners(dice: Dice, length: int) -> Problem:
    """The sum or the difference of two people's things; always one step."""
    slots = _people(dice)
    more = dice.between(2, 12)
    together = dice.chance(0.5)
    less = dice.between(1, min(8, HIGHEST - more)) if together else dice.between(1, more - 1)
    told = render(f"[{_TWO_OWNERS}]", dice, {**slots, "more": str(more), "less": str(less)})
    question = render(
        "How many {things} do they have [together|in all]?"
        if together
        else "How many more {things} does {name} have than {other}?",
        dice,
        slots,
    )
    result = more + less if together else more - less
    return Problem(
        f"{told} {question}", str(result), f"{more} {'+' if together else '-'} {less} = {result}.", length
    )


def one_or_more_sums(dice: Dice, length: int) -> Problem:
    """A third of the one-step problems compare two owners; all others are about events."""
    return two_owners(dice, 1) if length == 1 and dice.chance(1 / 3) else sums(dice, length)


def groups(dice: Dice, length: int) -> Problem:
    """`length` equal groups; the product is worked as a running sum."""
    size = dice.between(2, 5)
    slots = {**_people(dice), "groups": str(length), "size": str(size), "holders": dice.pick(_HOLDERS)}
    told = render(f"[{_GROUPS}]", dice, slots)
    question = render("How many {things} are there [in all|altogether]?", dice, slots)
    steps = [f"{size * number} + {size} = {size * (number + 1)}." for number in range(1, length)]
    return Problem(f"{told} {question}", str(size * length), " ".join(steps), length)
