"""Graders: each reads a reply strictly and leniently, and both grades are kept.

Strict: what follows the last "The answer is" or "####", or stands in the last \\boxed{}; without these, the
whole reply. Lenient: what a person would probably still accept as the answer. What is right strictly is also
right leniently. What a model writes while thinking (<think>) is not read.
"""

import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from string import punctuation
from typing import TypeVar

from camelid.base.errors import CamelidError
from camelid.prompting.attempt import ChoiceScore
from camelid.tasks.item import Grade, Grader, Grades, Item
from camelid.tasks.letters import letter_at_start, letters_in
from camelid.tasks.numbers import begins_with_number, parse_number
from camelid.tasks.reading import answer_region, regions, without_markup, without_reasoning
from camelid.tasks.stated import last_number, stated_number

__all__ = ["GRADERS", "choice", "exact", "likelihood", "numeric", "parse_number"]

T = TypeVar("T")

STRICT, LENIENT = "accuracy_strict", "accuracy_lenient"
GRADING = 3
"""Version of how replies are read and scores compared; recorded grades of another version are not reused."""

_PUNCTUATION = punctuation + "‘’´“”…"
_QUOTES = " \"'“”‘’*"
WORD = re.compile(r"[^\W_]+")
_DENIED = re.compile(r"(?:\b(?:not|never|nor|neither|cannot)|n t)(?: be)?(?: (?:a|an|the|option))?$")
"""Before a denied answer in `normalised` text, where "isn't" is "isn t"."""
_SPELLED = re.compile(r"[\W_]*(?P<word>[^\W_](?:[\s,.\"'“”’-]+[^\W_](?![^\W_]))+|[^\W_]+(?:-[^\W_]+)*)")
"""A word, or the letters of one: nk, n-k, n k, "n", "k"."""


class TwoWays:
    """A grader that reads a reply strictly and leniently; what is right strictly is also right leniently."""

    def __init__(self, grade: Callable[[Item, str], tuple[Grade, Grade]]) -> None:
        functools.update_wrapper(self, grade)
        self._grade = grade

    def __call__(self, item: Item, reply: str) -> Grades:
        """The grades of both readings."""
        strict, lenient = self._grade(item, reply)
        return {STRICT: strict, LENIENT: strict if strict.correct else lenient}

    def read(self, item: Item, reply: str) -> Mapping[str, str | None]:
        """What both readings extract, without regard to the right answer."""
        strict, lenient = self._grade(item, reply)
        return {STRICT: strict.extracted, LENIENT: lenient.extracted}


@TwoWays
def exact(item: Item, reply: str) -> tuple[Grade, Grade]:
    """Text equality. Strict: ignores case, white space, surrounding quotes and a final full stop.

    Lenient: the words of the answer occur together after the marker, or without a marker in the last
    sentence.
    """
    reply = without_reasoning(reply)
    region = answer_region(reply)
    strict = reply.strip() if region is None else region
    place = _last_sentence(reply) if region is None else region
    found = any(_contains(place, answer) for answer in item.answers)
    return (Grade(strict or None, _says(strict, item.answers)), Grade(place or None, found))


@TwoWays
def numeric(item: Item, reply: str) -> tuple[Grade, Grade]:
    """Equality of numbers, as fractions: 1,000 = 1000.0, $5 = 5, 40% = 40, 1/2 = ½ = 0.5, 1.2e3 = 1200.

    Strict: the first number after the last marker that has one (of "3 + 4 = 7" the result), or a reply that
    is just a number. Lenient: the last number.
    """
    reply = without_reasoning(reply)
    marked = [each.text for each in regions(reply) if not each.is_heading or begins_with_number(each.text)]
    stated = (stated_number(text) for text in marked)
    strict = (
        next((number for number in stated if number is not None), None) if marked else parse_number(reply)
    )
    lenient = last_number(reply)
    right = {number for number in map(parse_number, item.answers) if number is not None}
    if not right:
        raise CamelidError(
            f"item {item.id}: the answer {item.answer!r} is not a number; use the grader exact"
        )
    return (Grade(_printed(strict), strict in right), Grade(_printed(lenient), lenient in right))


@TwoWays
def choice(item: Item, reply: str) -> tuple[Grade, Grade]:
    """One of the choices, by its letter (if choices have letters) or its text.

    Strict: "B", "(B)", "B) text" or the text itself. Lenient: the first letter after the marker, or without a
    marker the last letter in the reply; otherwise the only choice whose words occur.
    """
    choices = _choices(item)
    reply = without_reasoning(reply)
    region = answer_region(reply)
    strict = _strict_choice(item, choices, reply.strip() if region is None else region)
    lenient = strict or _lenient_choice(item, choices, reply, region)
    return (Grade(strict, strict == item.answer), Grade(lenient, lenient == item.answer))


@TwoWays
def suited(item: Item, reply: str) -> tuple[Grade, Grade]:
    """For data sets with answers of several kinds: as choices, as a number, or as text, whichever the answer
    is."""
    if item.choices:
        return choice._grade(item, reply)
    is_number = parse_number(item.answer) is not None
    return numeric._grade(item, reply) if is_number else exact._grade(item, reply)


def likelihood(item: Item, scores: Sequence[ChoiceScore]) -> Grades:
    """The most probable choice under each normalisation; `scores` are in the order of the choices.

    If other choices are exactly as probable, none is chosen: the question counts as wrong, and as tied.

    accuracy: summed log-probability. Per token: GPT-3's (arXiv:2005.14165, section 2.4). Per character:
    LLaMA's (arXiv:2302.13971, section 3). Answer context: log P(choice | question) - log P(choice | "A:"),
    also GPT-3's. Calibrated: P(choice | question) / P(choice | content-free question) (Zhao et al.,
    arXiv:2102.09690, section 5).
    """
    _must_be_numbers(item, scores)
    ranks: dict[str, Callable[[ChoiceScore], float]] = {
        "accuracy": lambda score: score.logprob,
        "accuracy_per_token": lambda score: score.logprob / score.tokens,
        "accuracy_per_byte": lambda score: score.logprob / max(score.bytes, 1),
        "accuracy_per_character": lambda score: score.logprob / max(score.characters, 1),
    }
    if all(score.unconditional is not None for score in scores):
        ranks["accuracy_answer_context"] = lambda score: score.logprob - (score.unconditional or 0.0)
    choices = _choices(item)
    if all(score.content_free is not None for score in scores):
        ranks["accuracy_calibrated"] = lambda score: score.logprob - (score.content_free or 0.0)
    return {metric: _most_probable(item, choices, map(rank, scores)) for metric, rank in ranks.items()}


def last_word(item: Item, scores: Sequence[ChoiceScore]) -> Grades:
    """Whether greedy decoding would generate the target, the metric of GPT-2 and GPT-3 on LAMBADA."""
    _must_be_numbers(item, scores)
    [score] = scores
    if score.is_greedy is None:
        raise CamelidError(
            f"item {item.id}: the server does not say which token is the most probable (top_logprobs), "
            "which this accuracy needs; use a model folder"
        )
    return {"accuracy": Grade(item.answer if score.is_greedy else None, score.is_greedy)}


@TwoWays
def letters(item: Item, reply: str) -> tuple[Grade, Grade]:
    """A word spelled from letters, as in last-letter concatenation; white space and quotes are ignored.

    Strict: what follows the last marker, or the last `outputs "..."` of least-to-most, or a reply that is one
    word. Lenient: the last word in quotation marks, or else the last word.
    """
    reply = without_reasoning(reply)
    region = answer_region(reply)
    outputs = _last(match[1] for match in re.finditer(r'outputs "([^"]+)"', reply))
    stated = _SPELLED.match(without_markup(region)) if region else None
    strict = _spelled(stated["word"] if stated else outputs or (reply if len(reply.split()) == 1 else ""))
    quoted = _last(match[1] for match in re.finditer(r"[\"“”]([^\"“”]+)[\"“”]", reply))
    lenient = strict or _spelled(quoted or _last(iter(reply.split())) or "")
    right = set(map(_spelled, item.answers))
    return Grade(strict, strict in right), Grade(lenient, lenient in right)


def first_word(item: Item, reply: str) -> Grades:
    """Whether a reply begins with the word; punctuation around it is ignored."""
    word = (without_reasoning(reply).split() or [""])[0].strip(_PUNCTUATION)
    return {"accuracy": Grade(word or None, word == item.answer.strip(_PUNCTUATION))}


def exact_match(item: Item, reply: str) -> Grades:
    """Equality with an answer, ignoring case, punctuation and articles (SQuAD, arXiv:1606.05250, section
    6.1)."""
    words = answer_words(without_reasoning(reply))
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
    if any(score.unconditional is not None and not math.isfinite(score.unconditional) for score in scores):
        raise CamelidError(
            f"item {item.id}: a choice has no finite log-probability after the answer context, so it cannot "
            "be normalised by it; leave out --answer-context"
        )
    if any(score.tokens < 1 for score in scores):
        raise CamelidError(f"item {item.id}: a choice was scored on no tokens, so it has no probability")


def _most_probable(item: Item, choices: Sequence[str], ranks: Iterable[float]) -> Grade:
    """The choice with the highest rank, or none if different choices share it."""
    known = list(ranks)
    best = {option for option, rank in zip(choices, known, strict=True) if rank == max(known)}
    if len(best) > 1:
        return Grade(None, False, tied=True)
    [option] = best
    return Grade(option, option == item.answer)


def _last_sentence(reply: str) -> str:
    return re.split(r"(?<=[.!?])\s+|\n", reply.strip())[-1]


def _spelled(text: str) -> str | None:
    """The letters and digits of a text in lower case; None if there are none."""
    return "".join(WORD.findall(text.casefold())) or None


def _says(text: str, answers: Iterable[str], ends: str = ".!?") -> bool:
    """Whether the text, or its part before the first of `ends`, is one of the answers, as it is or without
    markup."""
    return any(
        _bare(each) == wanted or re.match(rf"{re.escape(wanted)}[{ends}]\s", _plain(each)) is not None
        for each in (text, without_markup(text))
        for wanted in map(_bare, answers)
    )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _bare(text: str) -> str:
    plain = _plain(text)
    return plain.strip(_QUOTES).rstrip(".!").strip(_QUOTES) or plain


def _contains(text: str, answer: str) -> bool:
    """Whether the words of the answer occur together, at least once without "not" before them."""
    words, place = normalised(answer), f" {normalised(text)} "
    found = re.finditer(f"(?= {re.escape(words)} )", place) if words else ()
    return any(not _DENIED.search(place, 0, match.start()) for match in found)


def _printed(number: Fraction | None) -> str | None:
    """A number as text: a decimal if that is exact with up to 10 digits, otherwise a fraction."""
    if number is None:
        return None
    try:
        decimal = f"{float(number):.10g}"
    except OverflowError:
        return str(number)
    return decimal if Fraction(decimal) == number else str(number)


def _strict_choice(item: Item, choices: Sequence[str], text: str) -> str | None:
    for option in choices:
        if _says(text, [option], ends=".!?,;:"):
            return option
    if not item.lettered:
        return None
    named = re.fullmatch(r"(?P<text>.+?)\s*[([](?P<letter>[A-Za-z])[)\]][.!]?", without_markup(text))
    chosen = letter_at_start(named["letter"], choices) if named else None
    if named and chosen and _says(named["text"], [chosen]):
        return chosen
    return letter_at_start(text, choices)


def _lenient_choice(item: Item, choices: Sequence[str], reply: str, region: str | None) -> str | None:
    text = reply if region is None else region
    if named := letters_in(text, choices) if item.lettered else []:
        return named[-1] if region is None else named[0]
    found = [option for option in choices if _contains(text, option)]
    longest = [a for a in found if not any(a != b and _contains(b, a) for b in found)]
    return longest[0] if len(longest) == 1 else None


def _choices(item: Item) -> Sequence[str]:
    if item.choices is None:
        raise CamelidError(f"item {item.id}: it has no choices; use the grader exact or numeric")
    return item.choices


def _last(values: Iterator[T]) -> T | None:
    last = None
    for value in values:
        last = value
    return last
