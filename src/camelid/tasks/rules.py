"""Instructions that a rule can grade: the 25 kinds of IFEval (Zhou et al. 2023, arXiv:2311.07911).

A rule is a function of a reply and its arguments, whose names are those of IFEval's published rows. Decisions
are those of the paper's code, but for sentences and languages, which it tells by models of its own.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from camelid.base.errors import CamelidError
from camelid.text.language import UNKNOWN, language_of

Rule = Callable[..., bool]
Arguments = Mapping[str, Any]

LESS, AT_LEAST = "less than", "at least"
OPTIONS = tuple(f"My answer is {answer}." for answer in ("yes", "no", "maybe"))
_ABBREVIATIONS = frozenset(
    str.split(
        "mr mrs ms dr prof st jr sr vs etc inc ltd co corp gen sen rep gov col sgt capt rev hon mt "
        "vol fig e.g i.e a.m p.m u.s u.k u.n ph.d jan feb mar apr aug sept oct nov dec"
    )
)
_SENTENCE_END = re.compile(r"(?P<last>\S*?)(?P<mark>[.!?]+)[\"'”’)\]]*(?=\s+(?P<next>\S)|\s*$)")
_PLACEHOLDER = re.compile(r"\[.*?\]")
_FENCE = re.compile(r"\A```(?:json|Json|JSON)?|```\Z")
_CONTRACTION = re.compile(r"(?:n't|'(?:s|m|d|ll|re|ve))\Z", re.IGNORECASE)
_BREAKS = re.compile(r"[\s()\[\]{}<>;@#$%&?!\"“”]+|--|[:,](?!\d)")


def sentences_in(text: str) -> int:
    """The number of sentences: they end at `.`, `!` or `?` before white space or the text's end.

    A full stop behind an abbreviation or an initial ends none, nor do several stops or one behind a number
    before a small letter.
    """
    count, end = 0, 0
    for found in _SENTENCE_END.finditer(text):
        last, mark, follows = found["last"].lstrip("\"'(“‘[").lower(), found["mark"], found["next"]
        if follows is not None:
            initial = len(last) == 1 and last.isalpha() and last != "i"
            if mark == "." and (last in _ABBREVIATIONS or initial):
                continue
            if follows.islower() and (mark.startswith("..") or last.isdecimal()):
                continue
        count, end = count + 1, found.end()
    return count + bool(text[end:].strip())


def words_in(text: str) -> int:
    """The number of words: runs of letters, digits and underscores."""
    return len(re.findall(r"\w+", text))


def capital_words_in(text: str) -> int:
    """The number of words in capitals; a hyphenated word is one, a contraction two."""
    count = 0
    for token in _BREAKS.split(text):
        word = token.strip(".'*-`_")
        ending = _CONTRACTION.search(word)
        parts = (word[: ending.start()], ending[0]) if ending else (word,)
        count += sum(part.isupper() for part in parts)
    return count


def compare(count: int, relation: str, wanted: int) -> bool:
    """Whether a count is `less than` or `at least` what is wanted."""
    if relation not in (LESS, AT_LEAST):
        raise CamelidError(f"the relation is {relation!r}; it is {LESS!r} or {AT_LEAST!r}")
    return count < wanted if relation == LESS else count >= wanted


def _language(reply: str, language: str) -> bool:
    """A reply without letters counts as right, as in the paper's code."""
    return language_of(reply) == language.partition("-")[0] or not any(map(str.isalpha, reply))


def _english(reply: str) -> bool:
    """What is too short to tell counts as English, since the rule is about its letters."""
    return language_of(reply.lower()) in ("en", UNKNOWN)


def _divided(reply: str, divider: str, wanted: int) -> list[str] | None:
    """The parts between dividers, without an empty first or last one; None if another one is empty."""
    parts = re.split(divider, reply)
    inner = parts[1:-1]
    return [part for part in parts if part.strip()] if all(part.strip() for part in inner) else None


def _paragraphs(reply: str, num_paragraphs: int) -> bool:
    parts = _divided(reply, r"\s?\*\*\*\s?", num_paragraphs)
    return parts is not None and len(parts) == num_paragraphs


def _two_responses(reply: str) -> bool:
    parts = _divided(reply, r"\*{6}", 2)
    return parts is not None and len(parts) == 2 and parts[0].strip() != parts[1].strip()


def _first_word(reply: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    parts = reply.split("\n\n")
    filled = sum(bool(part.strip()) for part in parts)
    if nth_paragraph > filled or not (words := parts[nth_paragraph - 1].split()):
        return False
    word = re.match(r"[^.,?!'\"]*", words[0].lstrip("'").lstrip('"'))
    return filled == num_paragraphs and word is not None and word[0].lower() == first_word.lower()


def _highlighted(reply: str, num_highlights: int) -> bool:
    single = [found.strip("*") for found in re.findall(r"\*[^\n*]*\*", reply)]
    double = [found[2:-2] for found in re.findall(r"\*\*[^\n*]*\*\*", reply)]
    return sum(bool(text.strip()) for text in (*single, *double)) >= num_highlights


def _postscript(reply: str, postscript_marker: str) -> bool:
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = known.get(postscript_marker, re.escape(postscript_marker.lower()))
    return re.search(marker, reply.lower()) is not None


def _is_json(reply: str) -> bool:
    try:
        json.loads(_FENCE.sub("", reply.strip()).strip())
    except (ValueError, RecursionError):
        return False
    return True


def _bullets(reply: str, num_bullets: int) -> bool:
    starred = re.findall(r"^\s*\*[^*].*$", reply, re.MULTILINE)
    return len(starred) + len(re.findall(r"^\s*-.*$", reply, re.MULTILINE)) == num_bullets


def _titled(reply: str) -> bool:
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", reply))


def _quoted(reply: str) -> bool:
    text = reply.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _times(pattern: str, reply: str) -> int:
    return len(re.findall(pattern, reply, re.IGNORECASE))


RULES: Mapping[str, Rule] = {
    "keywords:existence": lambda reply, keywords: all(_times(word, reply) for word in keywords),
    "keywords:frequency": lambda reply, keyword, frequency, relation: compare(
        _times(keyword.strip(), reply), relation, frequency
    ),
    "keywords:forbidden_words": lambda reply, forbidden_words: (
        not any(_times(rf"\b{word}\b", reply) for word in forbidden_words)
    ),
    "keywords:letter_frequency": lambda reply, letter, let_frequency, let_relation: compare(
        reply.lower().count(letter.strip().lower()), let_relation, let_frequency
    ),
    "language:response_language": _language,
    "length_constraints:number_sentences": lambda reply, num_sentences, relation: compare(
        sentences_in(reply), relation, num_sentences
    ),
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": lambda reply, num_words, relation: compare(
        words_in(reply), relation, num_words
    ),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda reply, num_placeholders: (
        len(_PLACEHOLDER.findall(reply)) >= num_placeholders
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda reply: any(option in reply for option in OPTIONS),
    "detectable_format:number_highlighted_sections": _highlighted,
    "detectable_format:multiple_sections": lambda reply, section_spliter, num_sections: (
        len(re.findall(rf"\s?{section_spliter.strip()}\s?\d+\s?", reply)) >= num_sections
    ),
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _titled,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": lambda reply, prompt_to_repeat: (
        reply.strip().lower().startswith(prompt_to_repeat.strip().lower())
    ),
    "startend:end_checker": lambda reply, end_phrase: (
        reply.strip().strip('"').lower().endswith(end_phrase.strip().lower())
    ),
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": lambda reply, capital_frequency, capital_relation: compare(
        capital_words_in(reply), capital_relation, capital_frequency
    ),
    "change_case:english_capital": lambda reply: reply.isupper() and _english(reply),
    "change_case:english_lowercase": lambda reply: reply.islower() and _english(reply),
    "punctuation:no_comma": lambda reply: "," not in reply,
}
"""IFEval's kinds of instructions by their ids; the arguments are those of its rows."""


def follows(reply: str, name: str, arguments: Arguments) -> bool:
    """Whether a reply follows one instruction; an empty one follows none.

    arguments: keys without a value (null) are left out, as IFEval's rows have all keys. Raises `CamelidError`
    for an unknown rule and for arguments that are not its own.
    """
    if name not in RULES:
        raise CamelidError(f"no rule {name!r}; the rules are {', '.join(RULES)}")
    given = {key: value for key, value in arguments.items() if value is not None}
    if not reply.strip():
        return False
    try:
        return RULES[name](reply, **given)
    except TypeError as error:
        raise CamelidError(f"the arguments of {name} are {given}: {error}") from error


def relaxed(reply: str) -> list[str]:
    """The reply as the lenient reading also takes it: without its first or last line or both, and each
    without asterisks."""
    lines = reply.split("\n")
    kept = [reply, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*kept, *(text.replace("*", "") for text in kept)]


def followed(reply: str, names: Sequence[str], arguments: Sequence[Arguments]) -> list[tuple[bool, bool]]:
    """For each instruction whether it is followed strictly, and leniently."""
    variants = relaxed(reply)
    return [
        (follows(reply, name, given), any(follows(text, name, given) for text in variants))
        for name, given in zip(names, arguments, strict=True)
    ]
