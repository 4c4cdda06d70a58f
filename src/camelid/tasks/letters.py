"""The letters of choices in a reply, read by the same rules whichever letter it is.

A capital letter can be the article "A" or the pronoun "I". What tells them apart is what stands beside it, so
that is asked of every letter: otherwise accuracy would depend on where the right choice stands.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from string import ascii_uppercase

from camelid.tasks.reading import without_markup

_LETTER = re.compile(
    r"(?<![A-Za-z0-9_'’-])(?:[(\[](?P<inner>[A-Za-z])[)\]]|(?P<bare>[A-Z])(?![A-Za-z0-9_'’]|-\w))"
)
_OPENING = re.compile(r"\W*(?:(?:option|choice|letter|answer)\b\s*:?\s*)?", re.IGNORECASE)
_SMALL = re.compile(r"(?P<small>[a-z])(?:[).:]|\s*$)")
_ENDED = re.compile(r"\s*(?:$|[).:,;!?\]}>/=|\n\"”]|[—–]|--|-\s)")
_LED = re.compile(
    r"(?:\b(?:option|choice|letter|answer|select|choose|chose|pick|picked|is|be|are|say|says)|[:=→>])\s*$",
    re.IGNORECASE,
)
_FOLLOWED = re.compile(
    r"\s+(?:because|since|as|is|are|it|which|and|or|but|so|here|then|from|in|on|at|by|of|not|"
    r"must|should|may|might|"
    r"(?!\w*(?:us|ss|as|is)\b)[a-z]+s)\b"
)
"""Words that follow a choice but neither an article nor, as verbs in -s do, the pronoun "I"."""
_PRONOUN = re.compile(
    r"\s+(?:think|believe|guess|know|am|would|will|can|cannot|could|have|had|need|want|see|say|find|do|don|was|"
    r"choose)\b"
)
_DENIED = re.compile(
    r"(?:\b(?:not|nor|neither|cannot be)|n['’]t(?: be)?)\s+(?:option\s+|choice\s+)?$", re.IGNORECASE
)
_WRONG = re.compile(
    r"\s*(?:\b(?:is|was|are)\s+(?:clearly\s+|also\s+)?(?:not|wrong|incorrect|false|out)\b|"
    r"(?:is|was|ca)n['’]t\b|cannot\b)"
)
_JOINED = re.compile(r"\s*[)\].]?\s*(?:,?\s*\b(?:or|and)\b|[,/&])\s*(?:option\s+|choice\s+)?$", re.IGNORECASE)


def letter_at_start(text: str, choices: Sequence[str]) -> str | None:
    """The choice whose letter a text begins with: "B", "(B)", "B) text", "Option B is right", "(b)", "b."."""
    text = _plain(text)
    at = _OPENING.match(text)
    start = at.end() if at and not text[: at.end()].rstrip().endswith(("(", "[")) else _bracket(text)
    for found in _LETTER.finditer(text, start):
        if found.start() == start and _means_choice(text, found, choices):
            unsure = _is_hedged(text, found, choices) or _is_rejected(text, found, choices)
            return None if unsure else _choice(found, choices)
        break
    small = _SMALL.match(text, start)
    return None if small is None else _by_letter(small["small"], choices)


def letters_in(text: str, choices: Sequence[str]) -> list[str | None]:
    """The choices whose letters occur in a text, in order; None for one of "A or B", which decides
    nothing."""
    text = _plain(text)
    found = [match for match in _LETTER.finditer(text) if _means_choice(text, match, choices)]
    kept = [match for match in found if not _is_rejected(text, match, choices)]
    return [None if _is_hedged(text, match, choices) else _choice(match, choices) for match in kept]


def _plain(text: str) -> str:
    """The text with ASCII letters and brackets for full-width ones, and without markup."""
    return without_markup(unicodedata.normalize("NFKC", text))


def _bracket(text: str) -> int:
    return next((index for index, character in enumerate(text) if character in "(["), 0)


def _choice(match: re.Match[str], choices: Sequence[str]) -> str | None:
    return _by_letter(match["inner"] or match["bare"], choices)


def _by_letter(letter: str, choices: Sequence[str]) -> str | None:
    index = ascii_uppercase.index(letter.upper())
    return choices[index] if index < len(choices) else None


def _means_choice(text: str, match: re.Match[str], choices: Sequence[str]) -> bool:
    """Whether a letter names a choice; a word such as the article or the pronoun does not."""
    option = _choice(match, choices)
    if option is None:
        return False
    before, after = text[: match.start()], text[match.end() :]
    if match["inner"] or _ENDED.match(after) or after.lstrip().casefold().startswith(option.casefold()):
        return True
    if _PRONOUN.match(after):
        return False
    if _LED.search(before) or _FOLLOWED.match(after):
        return True
    # A capital inside a sentence is not an article, which is a capital only at its start.
    return re.search(r"(?:^|[.!?:\n\"“])\s*$", before) is None


def _is_rejected(text: str, match: re.Match[str], choices: Sequence[str]) -> bool:
    """Whether the text says that the letter, or its choice, is not the answer: "not B", "B is wrong"."""
    if _DENIED.search(text[: match.start()]):
        return True
    rest = re.sub(r"^[).:\]\s]*", "", text[match.end() :])
    option = _choice(match, choices) or ""
    named = rest[len(option) :] if rest.casefold().startswith(option.casefold()) else rest
    return _WRONG.match(named) is not None


def _is_hedged(text: str, match: re.Match[str], choices: Sequence[str]) -> bool:
    """Whether the letter is one of several that are joined, as in "A or B" and "A, B, and C"."""
    others = [each for each in _LETTER.finditer(text) if _choice(each, choices) is not None]
    pairs = pairwise(others)
    return any(
        match.start() in (left.start(), right.start()) and _JOINED.fullmatch(text[left.end() : right.start()])
        for left, right in pairs
    )
