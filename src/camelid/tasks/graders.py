"""Graders: each reads a reply strictly and leniently, and both grades are kept.

Strict: what follows the last "The answer is" or "####"; without either, the whole reply. Lenient: what a
person would probably still accept as the answer. What is right strictly is also right leniently.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from string import ascii_uppercase, punctuation
from typing import TypeVar

from camelid.base.errors import CamelidError
from camelid.prompting.programs import ChoiceScore
from camelid.tasks.item import Grade, Grader, Grades, Item

T = TypeVar("T")

STRICT, LENIENT = "accuracy_strict", "accuracy_lenient"

_MARKER = re.compile(r"\bthe (?:final )?answer(?: \([^)]*\))? is\b\s*:?|####", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)])[-−])?[$€£]?(?P<top>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:\s?/\s?(?P<bottom>\d+(?:\.\d+)?))?"
)
_PUNCTUATION = punctuation + "‘’´“”…"
_QUOTES = " \"'“”‘’*"
WORD = re.compile(r"[^\W_]+")
_LETTER = re.compile(r"\(?(?P<letter>[A-Z])(?:[).:]|$|, (?![A-Z]\b))")
_ANY_LETTER = re.compile(r"\((?P<a>[A-Z])\)|\b(?P<b>[B-HJ-Z])\b|\b(?P<c>[AI])(?=\s*(?:[).:,]|$))")


def exact(item: Item, reply: str) -> Grades:
    """Text equality. Strict: ignores case, white space, surrounding quotes and a final full stop.

    Lenient: the words of the answer occur together after the marker, or without a marker in the last
    sentence.
    """
    region = _after_marker(reply)
    strict = reply.strip() if region is None else region
    place = _last_sentence(reply) if region is None else region
    found = any(_contains(place, answer) for answer in item.answers)
    return _grades(Grade(strict or None, _says(strict, item.answers)), Grade(place or None, found))


def numeric(item: Item, reply: str) -> Grades:
    """Equality of numbers, as fractions: 1,000 = 1000.0, $5 = 5, 40% = 40, 1/2 = 0.5.

    Strict: the first number after the marker, or a reply that is just a number. Lenient: the last number.
    """
    region = _after_marker(reply)
    strict = parse_number(reply) if region is None else _first(_numbers(region))
    lenient = _last(_numbers(reply))
    right = {number for number in map(parse_number, item.answers) if number is not None}
    if not right:
        raise CamelidError(
            f"item {item.id}: the answer {item.answer!r} is not a number; use the grader exact"
        )
    return _grades(Grade(_printed(strict), strict in right), Grade(_printed(lenient), lenient in right))


def choice(item: Item, reply: str) -> Grades:
    """One of the choices, by its letter (if choices have letters) or its text.

    Strict: "B", "(B)", "B) text" or the text itself. Lenient: the first letter after the marker, or without a
    marker the last letter in the reply; otherwise the only choice whose words occur.
    """
    choices = _choices(item)
    region = _after_marker(reply)
    strict = _strict_choice(item, choices, reply.strip() if region is None else region)
    lenient = strict or _lenient_choice(item, choices, reply, region)
    return _grades(Grade(strict, strict == item.answer), Grade(lenient, lenient == item.answer))


def likelihood(item: Item, scores: Sequence[ChoiceScore]) -> Grades:
    """The most probable choice under each normalisation; `scores` are in the order of the choices.

    accuracy: summed log-probability. Per token: GPT-3's (arXiv:2005.14165, section 2.4). Per character:
    LLaMA's (arXiv:2302.13971, section 3). Answer context: log P(choice | question) - log P(choice | "A:"),
    also GPT-3's.
    """
    _must_be_numbers(item, scores)
    ranks: dict[str, Callable[[ChoiceScore], float]] = {
        "accuracy": lambda score: score.logprob,
        "accuracy_per_token": lambda score: score.logprob / max(score.tokens, 1),
        "accuracy_per_byte": lambda score: score.logprob / max(score.bytes, 1),
        "accuracy_per_character": lambda score: score.logprob / max(score.characters, 1),
    }
    if all(score.unconditional is not None for score in scores):
        ranks["accuracy_answer_context"] = lambda score: score.logprob - (score.unconditional or 0.0)
    choices = _choices(item)
    best = {metric: choices[_argmax(map(rank, scores))] for metric, rank in ranks.items()}
    return {metric: Grade(option, option == item.answer) for metric, option in best.items()}


def last_word(item: Item, scores: Sequence[ChoiceScore]) -> Grades:
    """Whether greedy decoding would generate the target, the metric of GPT-2 and GPT-3 on LAMBADA."""
    _must_be_numbers(item, scores)
    [score] = scores
    return {"accuracy": Grade(item.answer if score.is_greedy else None, score.is_greedy)}


def first_word(item: Item, reply: str) -> Grades:
    """Whether a reply begins with the word; punctuation around it is ignored."""
    word = (reply.split() or [""])[0].strip(_PUNCTUATION)
    return {"accuracy": Grade(word or None, word == item.answer.strip(_PUNCTUATION))}


def exact_match(item: Item, reply: str) -> Grades:
    """Equality with an answer, ignoring case, punctuation and articles (SQuAD, arXiv:1606.05250, section
    6.1)."""
    words = answer_words(reply)
    return {"exact_match": Grade(words or None, words in set(map(answer_words, item.answers)))}


GRADERS: Mapping[str, Grader] = {"exact": exact, "numeric": numeric, "choice": choice}


def normalised(text: str) -> str:
    """The words of a text with single spaces between them."""
    return " ".join(words_of(text))


def words_of(text: str) -> list[str]:
    """The words of a text in lower case: its runs of letters and digits."""
    return WORD.findall(text.casefold())


def answer_words(text: str) -> str:
    """A text as SQuAD's exact match compares it: lower case, no punctuation, no articles, single spaces."""
    bare = "".join(letter for letter in text.lower() if letter not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", bare).split())


def _must_be_numbers(item: Item, scores: Sequence[ChoiceScore]) -> None:
    if any(math.isnan(score.logprob) for score in scores):
        raise CamelidError(f"item {item.id}: a log-probability is NaN; the model or its weights are damaged")


def _grades(strict: Grade, lenient: Grade) -> Grades:
    return {STRICT: strict, LENIENT: strict if strict.correct else lenient}


def _after_marker(reply: str) -> str | None:
    """The first line after the last marker, stripped; None without a marker."""
    end = None
    for match in _MARKER.finditer(reply):
        end = match.end()
    return None if end is None else _first(iter(reply[end:].strip().splitlines())) or ""


def _last_sentence(reply: str) -> str:
    return re.split(r"(?<=[.!?])\s+|\n", reply.strip())[-1]


def _says(text: str, answers: Iterable[str], ends: str = ".!?") -> bool:
    """Whether the text, or its part before the first of `ends`, is one of the answers."""
    bare = _bare(text)
    return any(
        bare == wanted or re.match(rf"{re.escape(wanted)}[{ends}]\s", _plain(text)) is not None
        for wanted in map(_bare, answers)
    )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _bare(text: str) -> str:
    plain = _plain(text)
    return plain.strip(_QUOTES).rstrip(".!").strip(_QUOTES) or plain


def _contains(text: str, answer: str) -> bool:
    words = normalised(answer)
    return bool(words) and f" {words} " in f" {normalised(text)} "


def _numbers(text: str) -> Iterator[Fraction]:
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            yield value


def parse_number(text: str) -> Fraction | None:
    """The number in a text that is just a number, with or without currency, per cent sign and full stop; else
    None."""
    match = _NUMBER.fullmatch(text.strip().rstrip(".").rstrip("%").strip())
    return None if match is None else _value(match)


def _value(match: re.Match[str]) -> Fraction | None:
    bottom = Fraction(match["bottom"] or 1)
    if not bottom:
        return None
    value = Fraction(match["top"].replace(",", "")) / bottom
    return -value if match["sign"] else value


def _printed(number: Fraction | None) -> str | None:
    """A number as text: a decimal if that is exact with up to 10 digits, otherwise a fraction."""
    if number is None:
        return None
    decimal = f"{float(number):.10g}"
    return decimal if Fraction(decimal) == number else str(number)


def _strict_choice(item: Item, choices: Sequence[str], text: str) -> str | None:
    for option in choices:
        if _says(text, [option], ends=".!?,;:"):
            return option
    if not item.lettered:
        return None
    match = _LETTER.match(text)
    return None if match is None else _by_letter(choices, match["letter"])


def _lenient_choice(item: Item, choices: Sequence[str], reply: str, region: str | None) -> str | None:
    text = reply if region is None else region
    letters = [match[match.lastgroup or 0] for match in _ANY_LETTER.finditer(text)] if item.lettered else []
    named = [option for option in (_by_letter(choices, letter) for letter in letters) if option is not None]
    if named:
        return named[-1] if region is None else named[0]
    found = [option for option in choices if _contains(text, option)]
    longest = [a for a in found if not any(a != b and _contains(b, a) for b in found)]
    return longest[0] if len(longest) == 1 else None


def _by_letter(choices: Sequence[str], letter: str) -> str | None:
    index = ascii_uppercase.index(letter)
    return choices[index] if index < len(choices) else None


def _choices(item: Item) -> Sequence[str]:
    if item.choices is None:
        raise CamelidError(f"item {item.id}: it has no choices; use the grader exact or numeric")
    return item.choices


def _argmax(values: Iterable[float]) -> int:
    known = list(values)
    return known.index(max(known))


def _first(values: Iterator[T]) -> T | None:
    return next(values, None)


def _last(values: Iterator[T]) -> T | None:
    last = None
    for value in values:
        last = value
    return last
