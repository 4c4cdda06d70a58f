"""Numbers in English words: "twenty-five", "one hundred and five", "two thousand three hundred"."""

import re
from fractions import Fraction

from camelid.tasks.reading import without_markup

_WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15,
    "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30,
    "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90
}  # fmt: skip
_POWERS = {"thousand": 1000, "million": 10**6, "billion": 10**9}


def _one_of(least: int, most: int) -> str:
    return "(?:" + "|".join(word for word, value in _WORDS.items() if least <= value <= most) + ")"


_ONE = _one_of(1, 9)
_BELOW_100 = rf"(?:{_one_of(20, 90)}(?:[\s-]+{_ONE})?|{_one_of(10, 19)}|{_ONE})"
_BELOW_1000 = rf"(?:{_ONE} hundred(?: (?:and )?{_BELOW_100})?|{_BELOW_100})"
_POWER = f"(?:{'|'.join(_POWERS)})"
_NUMBER = re.compile(
    r"\W*(?P<sign>(?:minus|negative) )?"
    rf"(?P<words>zero|(?:{_BELOW_1000} {_POWER},? (?:and )?)*{_BELOW_1000}(?: {_POWER})?)"
    r"\s*(?=$|[.,;!?()\n*}])",
    re.IGNORECASE,
)


def number_in_words(text: str) -> Fraction | None:
    """The number that a text begins with in words, if only punctuation follows; None for "one of them"."""
    match = _NUMBER.match(without_markup(text))
    if match is None:
        return None
    total = current = 0
    for word in re.findall(r"[a-z]+", match["words"].lower()):
        if word == "hundred":
            current *= 100
        elif word in _POWERS:
            total, current = total + current * _POWERS[word], 0
        else:
            current += _WORDS.get(word, 0)
    return Fraction(-(total + current) if match["sign"] else total + current)
