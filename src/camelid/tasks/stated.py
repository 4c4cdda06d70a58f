"""Which number a reply states: the result of "3 + 4 = 7", none of "5 or 6", 15 of "not 12 but 15"."""

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from camelid.tasks.number_words import number_in_words
from camelid.tasks.numbers import Token, plain_numbers, tokens

_ADDED = re.compile(r"\w\+$|\w[ \t]*[+×÷][ \t]+$|\w[×÷]$")
_EQUALS = re.compile(r"=|≈|,? which (?:is|equals|gives|makes)\b|\bequals\b|\bis equal to\b")
_SENTENCE = re.compile(r"[.!?;](?=\s|$)|,\s(?!which\b)|\n|\((?=[a-z]{2})")
_PROSE = re.compile(
    r"\b(?:because|since|as|so|and|or|if|when|where|that|not|but|given|for|after|with)\b", re.IGNORECASE
)
_OPERATOR = re.compile(
    r"[ \t]*\)?[ \t]*(?:[+×÷*·/]|-[ \t]|[xX][ \t]?(?=[\d($])|"
    r"(?:plus|minus|times|divided by|multiplied by|more than|less than)\b)[ \t]*[$€£]?\(?[$€£]?\.?\d"
)
_JOINED = re.compile(r"[ \t]*(?:,?[ \t]*\b(?:or|and|to)\b|-)[ \t]*$")
_FROM = re.compile(r"\bfrom\s*$")
_LISTED = re.compile(r",[ \t]*$")
_ENDED = re.compile(r"[ \t]*(?:$|[.!?})\]\n$])")
_DENIED = re.compile(
    r"(?:\b(?:not|never|nor|cannot|(?:is|was|are|were|ca|wo|could|would|does|do)n['’]t)(?: be| equal)?|"
    r"\b(?:more|less|fewer|greater|larger|smaller) than)"
    r"\s+(?:(?:to|exactly|simply|just|a|an|the)\s+)*[($\\\[{*]*$",
    re.IGNORECASE,
)


def stated_number(text: str) -> Fraction | None:
    """The first number of a text, or the result where a calculation begins with it: 7 of "3 + 4 = 7".

    None if there is no number, a calculation without its result, or several candidates ("5 or 6").
    """
    if (spelled := number_in_words(text)) is not None:
        return spelled
    plain = plain_numbers(text)
    found = _affirmed(plain)
    if not found:
        return None
    first = found[0]
    clause = _SENTENCE.split(plain[first.start :], maxsplit=1)[0]
    *sides, last = _EQUALS.split(clause)
    if sides and not any(map(_PROSE.search, sides)):
        for side in (last, *reversed(sides)):
            value = _whole_side(side.lstrip())
            if value is not None:
                return value
    return None if first in _candidates(plain, found) or _OPERATOR.match(plain, first.end) else first.value


def last_number(text: str) -> Fraction | None:
    """The last number of a text that is not denied, an operand, or one of several candidates."""
    plain = plain_numbers(text)
    found = _affirmed(plain)
    left_out = _candidates(plain, found)
    for left, right in pairwise(found):
        left_out |= {left, right} if _OPERATOR.match(plain, left.end) else set()
    for each in reversed(found):
        if each.value is not None and each not in left_out and not _ADDED.search(plain, 0, each.start):
            return each.value
    return None


def _affirmed(plain: str) -> Sequence[Token]:
    """The numbers of a text without those that it denies, as in "not 12"."""
    return [each for each in tokens(plain) if not _DENIED.search(plain, max(each.start - 40, 0), each.start)]


def _whole_side(side: str) -> Fraction | None:
    """The number that one side of an equation is, with its unit; None for a calculation or "60% of 50"."""
    found = next(tokens(side), None)
    if found is None or found.start > 0 or _OPERATOR.match(side, found.end):
        return None
    return None if re.match(r"%?\s*of\b", side[found.end :]) else found.value


def _candidates(plain: str, found: Sequence[Token]) -> set[Token]:
    """The numbers that are several candidates for one answer: "5 or 6", "5-$6", "(5, 6)"; not "from 5 to
    6", nor "3/8 or 0.375", which are the same."""
    several, group, is_list = set[Token](), list[Token](), True
    for left, right in zip([None, *found], [*found, None], strict=True):
        between = plain[left.end : right.start] if left and right else ""
        group += [left] if left else []
        listed = _LISTED.match(between) is not None
        alternative = _JOINED.match(between) is not None
        if left and "to" in between and _FROM.search(plain, 0, left.start):
            alternative = False
        is_list = is_list and not alternative
        if listed or alternative:
            continue
        values = {each.value for each in group}
        if len(group) > 1 and (len(values) > 1 or None in values):
            several |= set() if is_list and not _ENDED.match(plain, group[-1].end) else {*group}
        group, is_list = [], True
    return several
