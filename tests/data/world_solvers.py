"""Independent solvers: each reads nothing but the text of a question and works out the answer anew."""

import re
from datetime import date, timedelta
from itertools import pairwise

from camelid.data.world.lexicon import KINDS

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [date(2023, month, 1).strftime("%B") for month in range(1, 13)]
LOWER = {
    "shorter": "taller",
    "younger": "older",
    "slower": "faster",
    "lighter": "heavier",
    "weaker": "stronger",
    "quieter": "louder",
    "poorer": "richer",
    "sadder": "happier",
}
SUPERLATIVE = {
    "tallest": "taller",
    "shortest": "shorter",
    "oldest": "older",
    "youngest": "younger",
    "fastest": "faster",
    "slowest": "slower",
    "heaviest": "heavier",
    "lightest": "lighter",
    "strongest": "stronger",
    "weakest": "weaker",
    "loudest": "louder",
    "quietest": "quieter",
    "richest": "richer",
    "poorest": "poorer",
    "happiest": "happier",
    "saddest": "sadder",
}


def coin_flip(question: str) -> str:
    start, asked = re.findall(r"(heads|tails) up", question)
    flips = len(re.findall(r"(?<!not) (?:flips the coin|flips it|turns the coin over)\.", question))
    idle = len(re.findall(r"(?:does not flip the coin|does not flip it|leaves the coin alone)\.", question))
    people = question.count(".") - (2 if "There is a coin." in question else 1)
    assert flips + idle == people
    return "yes" if (flips % 2 == 0) == (start == asked) else "no"


def last_letters(question: str) -> str:
    return " ".join(name[-1] for name in _names(question))


def _names(question: str) -> list[str]:
    """All capitalised words but the first, which begins the sentence."""
    return re.findall(r"[A-Z][a-z]+", question)[1:]


def comparison(question: str) -> str:
    higher: set[tuple[str, str]] = set()
    for one, word, other in re.findall(r"(\w+) is (\w+) than (\w+)\.", question):
        higher.add((other, one) if word in LOWER else (one, other))
    while True:
        closed = higher | {(a, d) for a, b in higher for c, d in higher if b == c}
        if closed == higher:
            break
        higher = closed
    people = {name for pair in higher for name in pair}
    (asked,) = re.findall(r"(\w+)(?: of them| one)?[.?]$", question)
    word = SUPERLATIVE.get(asked, asked)
    beats = {(b, a) for a, b in higher} if word in LOWER else higher
    (winner,) = [name for name in people if all((name, other) in beats for other in people - {name})]
    return winner


def _backwards(question: str) -> bool:
    return bool(re.search(r"\b(ago|before)\b", question))


def weekdays(question: str) -> str:
    start = next(word for word in re.findall(r"\w+", question) if word in DAYS)
    (count,) = re.findall(r"(\d+) days?", question)
    monday = date(2024, 1, 1)
    sign = -1 if _backwards(question) else 1
    return (monday + timedelta(days=DAYS.index(start) + sign * int(count))).strftime("%A")


def months(question: str) -> str:
    start = next(word for word in re.findall(r"\w+", question) if word in MONTHS)
    (count,) = re.findall(r"(\d+) months?", question)
    number = 12 * 2023 + MONTHS.index(start) + (-1 if _backwards(question) else 1) * int(count)
    return date(number // 12, number % 12 + 1, 1).strftime("%B")


def dates(question: str) -> str:
    ((day, month),) = re.findall(rf"(\d+) ({'|'.join(MONTHS)})", question)
    (count,) = re.findall(r"(\d+) days?", question)
    end = date(2023, MONTHS.index(month) + 1, int(day)) + timedelta(days=int(count))
    return f"{end.day} {end:%B}"


def sums(question: str) -> str:
    *told, asked = re.split(r"(?<=[.?]) (?=[A-Z])", question)
    if "together" in asked or "in all" in asked or "How many more" in asked:
        one, other = (int(number) for number in re.findall(r"\d+", question))
        return str(one - other if "How many more" in asked else one + other)
    owner = re.findall(r"does (\w+) have", asked) or re.findall(
        r"(?:basket of (\w+)|(\w+) (?:has|carries))", told[0]
    )
    name = owner[0] if isinstance(owner[0], str) else "".join(owner[0])
    total = 0
    for at, sentence in enumerate(told):
        (number,) = map(int, re.findall(r"\d+", sentence))
        gain = (
            at == 0
            or re.search(r"finds|gets|buys|added", sentence)
            or re.search(rf"gives {name} \d", sentence)
        )
        loss = re.search(r"loses|sells|gone|takes", sentence) or re.search(rf"{name} gives \d+ to", sentence)
        assert bool(gain) != bool(loss), sentence
        total += number if gain else -number
    return str(total)


def groups(question: str) -> str:
    one, other = (int(number) for number in re.findall(r"\d+", question))
    return str(one * other)


def _sums_hold(question: str, steps: str, answer: str) -> bool:
    """Every `a + b = c.` is true and begins where the last one ended; the last one gives the answer."""
    rows = [tuple(map(int, row)) for row in re.findall(r"(\d+) [+-] (\d+) = (\d+)\.", steps)]
    signs = re.findall(r" ([+-]) ", steps)
    true = all((a + b if sign == "+" else a - b) == c for (a, b, c), sign in zip(rows, signs, strict=True))
    return true and all(one[2] == two[0] for one, two in pairwise(rows)) and rows[-1][2] == int(answer)


def _coin_steps_hold(question: str, steps: str, answer: str) -> bool:
    """The state after every person is that of the question cut off there."""
    states = re.findall(r"(?:is|to|at) (heads|tails)\b", steps)
    before = [states[at] for at, step in enumerate(re.findall(r"[^.]+\.", steps)[1:]) if " from " in step]
    if re.findall(r"from (heads|tails)", steps) != before:
        return False
    side, expected = states[0], [states[0]]
    for doing in re.findall(r"[A-Z]\w+ (flips|turns|does not|leaves)", question):
        side = {"heads": "tails", "tails": "heads"}[side] if doing in ("flips", "turns") else side
        expected.append(side)
    return states == expected


def _chain_holds(question: str, steps: str, answer: str) -> bool:
    """The walk begins with the first of the question, goes over its premises word by word to the answer."""
    (here,) = re.findall(r"^We start with (\w+)\.", steps)
    given = re.findall(r"(\w+) is (\w+) than (\w+)\.", question)
    walked = re.findall(r"(\w+) is (\w+) than (\w+)\.", steps.rpartition(" Nobody")[0])
    (end,) = re.findall(r"Nobody is \w+ than (\w+)\.$", steps)
    started = here == given[0][0]
    for one, word, other in walked:
        if here not in (one, other) or (one, word, other) not in given:
            return False
        here = other if here == one else one
    return started and here == end == answer and len(set(walked)) == len(walked)


def _counting_holds(solver, unit):
    def holds(question: str, steps: str, answer: str) -> bool:
        stations = re.findall(rf"(\d+) {unit}s? (?:later|earlier) is ([^.]*)\.", steps)
        cut = [(number, re.sub(rf"\d+ {unit}s?", f"{number} {unit}s", question)) for number, _ in stations]
        return [(number, solver(text)) for number, text in cut] == stations and stations[-1][1] == answer

    return holds


def _letters_hold(question: str, steps: str, answer: str) -> bool:
    """The steps name every name of the question with its last letter."""
    pairs = re.findall(r"The last letter of (\w+) is (\w)\.", steps)
    return pairs == [(name, name[-1]) for name in _names(question)]


def kinds(question: str) -> str:
    """The one thing of the kind asked for; which things there are is knowledge, and the table is read."""
    (kind,) = [kind for kind in KINDS if f"is {kind}" in question]
    (thing,) = [thing for thing in KINDS[kind] if re.search(rf"\b{thing}\b", question.lower())]
    return thing


def _kinds_hold(question: str, steps: str, answer: str) -> bool:
    """Every thing is said to be of its kind, and the search ends at the one of the kind that is asked for."""
    (kind,) = [kind for kind in KINDS if f"is {kind}" in question]
    rows = re.findall(r"(\w+ [\w ]+?) is (an? [\w ]+): (yes|no)\.", steps)
    true = all(thing.lower() in KINDS[of] and thing.lower() in question.lower() for thing, of, _ in rows)
    found = [thing.lower() for thing, of, verdict in rows if of == kind and verdict == "yes"]
    return true and steps.startswith(f"We look for {kind}.") and found == [answer] == [rows[-1][0].lower()]


STEPS_HOLD = {
    "coin_flip": _coin_steps_hold,
    "last_letters": _letters_hold,
    "comparison": _chain_holds,
    "kinds": _kinds_hold,
    "weekdays": _counting_holds(weekdays, "day"),
    "months": _counting_holds(months, "month"),
    "dates": _counting_holds(dates, "day"),
    "sums": _sums_hold,
    "groups": _sums_hold,
}


SOLVERS = {
    "coin_flip": coin_flip,
    "last_letters": last_letters,
    "comparison": comparison,
    "kinds": kinds,
    "weekdays": weekdays,
    "months": months,
    "dates": dates,
    "sums": sums,
    "groups": groups,
}
