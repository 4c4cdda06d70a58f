"""Numbers as people and models write them, as exact fractions.

1,000 = 1{,}000 = 1 000 (thin spaces) = 1.0e3 = 1.0 × 10^3; $5 = 5; 40% = 40; ½ = 1/2 = \\frac{1}{2} = 0.5.
"""

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction

from camelid.tasks.reading import without_markup

MOST_DIGITS = 1000
"""Longer numbers are not read."""
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)])-)?[$€£¥₹]?(?P<inner>(?<![\w)])-(?=[\d.]))?"
    r"(?:(?P<whole>\d+)\s(?=\d+/\d))?"
    r"(?P<top>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|"
    r"\d{1,2}(?:,\d{2})+,\d{3}(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:[eE](?P<exponent>[+-]?\d{1,3})(?![\w]))?"
    r"(?:\^(?P<power>-?\d{1,3})(?!\d))?"
    r"(?:\s?[×*x]\s?10\^(?P<ten>-?\d{1,3})(?!\d))?"
    r"(?:\s?/\s?(?P<bottom>\d+(?:\.\d+)?))?"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\[,;:! ]|[\u00a0\u2007\u2009\u202f'’_٬])(?=\d{3}(?!\d))")
_MINUS = str.maketrans(
    dict.fromkeys("−–‐‑‒﹣－", "-") | {"％": "%", "．": ".", "，": ",", "⁄": "/", "٫": "."}
)
_SIGNS = re.compile("[¼-¾⅐-⅞↉]")
"""Fractions that are one character."""
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?[\d.]+)\s*\}\s*\{\s*([\d.]+)\s*\}|(\d)\s*(\d))")
_LATEX = (
    (re.compile(r"\\([$%#])"), r"\1"),
    (re.compile(r"\\times\b\s*|\\cdot\b\s*"), "×"),
    (re.compile(r"\\div\b\s*"), "÷"),
    (re.compile(r"\\approx\b"), "≈"),
    (re.compile(r"\^\{\s*(-?\d+)\s*\}"), r"^\1"),
)
_SUPERSCRIPT = re.compile(r"(?<=\d)[⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_EQUALS = re.compile(r"=|≈|,? which (?:is|equals|gives|makes)\b|\bequals\b|\bis equal to\b")
_SENTENCE = re.compile(r"[.!?;](?=\s|$)|,\s(?!which\b)|\n|\((?=[a-z]{2})")
_PROSE = re.compile(
    r"\b(?:because|since|as|so|and|or|if|when|where|that|not|but|given|for|after|with)\b", re.IGNORECASE
)
_OPERATOR = re.compile(r"\s*(?:[+×÷*·]|-\s|x\s)\s*[$€£]?\(?\d")


def numbers_in(text: str) -> Iterator[Fraction]:
    """The numbers of a text, in order."""
    for match in _NUMBER.finditer(plain_numbers(text)):
        value = _value(match)
        if value is not None:
            yield value


def parse_number(text: str) -> Fraction | None:
    """The number in a text that is just a number, with or without currency, per cent sign and full stop; else
    None."""
    plain = without_markup(plain_numbers(text)).strip().rstrip(".").rstrip("%$").strip()
    match = _NUMBER.fullmatch(plain)
    return None if match is None else _value(match)


def stated_number(text: str) -> Fraction | None:
    """The first number of a text, or the result where a calculation begins with it: 7 of "3 + 4 = 7".

    None if there is no number, or a calculation without its result.
    """
    plain = plain_numbers(text)
    known = ((match, _value(match)) for match in _NUMBER.finditer(plain))
    match, first = next(((match, value) for match, value in known if value is not None), (None, None))
    if match is None:
        return None
    clause = _SENTENCE.split(plain[match.start() :], maxsplit=1)[0]
    *sides, last = _EQUALS.split(clause)
    if sides and not any(map(_PROSE.search, sides)):
        for side in (last, *reversed(sides)):
            found = _NUMBER.match(side.lstrip())
            if (
                found
                and not _OPERATOR.match(side.lstrip(), found.end())
                and not _of(side.lstrip(), found.end())
            ):
                return _value(found)
    return None if _OPERATOR.match(plain, match.end()) else first


def begins_with_number(text: str) -> bool:
    """Whether a text begins with a number, as after the `####` of GSM8K; headings do not."""
    return re.match(r"[\s*_:=$€£(\[\\~≈-]*(?:[a-z] ?= ?)?\.?\d", plain_numbers(text)) is not None


def plain_numbers(text: str) -> str:
    """The text with its numbers in one spelling: ASCII digits, signs and fractions, commas between
    thousands."""
    text = _SIGNS.sub(_spelt_out, "".join(map(_ascii, text))).translate(_MINUS)
    text = _THOUSANDS.sub(",", text)
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    text = _FRACTION.sub(lambda m: _after_whole(m, f"{m[1] or m[3]}/{m[2] or m[4]}"), text)
    return _SUPERSCRIPT.sub(lambda m: f"^{unicodedata.normalize('NFKC', m[0]).replace('−', '-')}", text)


def _ascii(character: str) -> str:
    """A digit of any script as ASCII; other characters as they are."""
    if character.isascii() or not character.isdecimal():
        return character
    return str(unicodedata.decimal(character))


def _spelt_out(match: re.Match[str]) -> str:
    """A fraction that is one character, such as ½, as 1/2."""
    return _after_whole(match, unicodedata.normalize("NFKC", match[0]))


def _after_whole(match: re.Match[str], fraction: str) -> str:
    """The fraction, with a space if a whole number stands before it, as in 2½."""
    return f" {fraction}" if match.string[: match.start()][-1:].isdigit() else fraction


def _of(text: str, at: int) -> bool:
    return re.match(r"%?\s*of\b", text[at:]) is not None


def _value(match: re.Match[str]) -> Fraction | None:
    bottom = Fraction(match["bottom"] or 1)
    if not bottom or len(match[0]) > MOST_DIGITS:
        return None
    value = Fraction(match["top"].replace(",", ""))
    if match["power"]:
        power = int(match["power"])
        if (value == 0 and power < 0) or len(match["top"]) > 20:
            return None
        value = Fraction(value) ** power
    value = (
        value * Fraction(10) ** int(match["exponent"] or 0) * Fraction(10) ** int(match["ten"] or 0) / bottom
    )
    value += Fraction(match["whole"] or 0)
    return -value if match["sign"] or match["inner"] else value
