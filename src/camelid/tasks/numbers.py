"""Numbers as people and models write them, as exact fractions.

1,000 = 1{,}000 = 1 000 = 1.000,0 = 1.0e3 = 1.0 × 10^3 = 1k; $5 = 5; 40% = 40; ½ = 1/2 = \\frac{1}{2} = 0.5;
negative 5 = -5; 5 million = 5,000,000. What only looks like a number is not taken for a part of it: dates,
times, ratios and ranges (5-6), powers and roots that are not computed (2^x, √2), unknowns (2x), measures of
two units (5 ft 3 in), names (B12).
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from camelid.tasks.reading import without_markup

MOST_DIGITS = 1000
"""Longer numbers are not read."""
OPAQUE = "ƒ"
"""Stands for an expression whose value is not computed."""
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12} | {
    "k": 3,
    "m": 6,
    "b": 9,
    "bn": 9,
}
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)])-)?(?P<currency>[$€£¥₹] ?)?(?P<inner>(?<![\w)])-(?=[\d.]))?"
    r"(?:(?P<whole>\d+)\s(?=\d+/\d))?"
    r"(?P<run>\.?\d(?:\d|[.,:/-](?=\d))*)"
    r"(?:[eE](?P<exponent>[+-]?\d{1,3})(?!\w))?"
    r"(?:\^(?P<power>-?\d{1,3})(?!\d))?"
    r"(?:\s?[×*x]\s?10\^(?P<ten>-?\d{1,3})(?!\d))?"
    r"(?: ?/ ?(?P<bottom>\d+(?:\.\d+)?))?"
    r"(?P<scale>[ -]?(?i:hundred|thousand|million|billion|trillion)s?\b|(?:[kKMmB]|bn)(?![A-Za-z²³^]))?"
)
"""`run` is everything that digits are glued to: a number, or a date, a time, a range."""
_RUN = re.compile(
    r"(?P<european>\d{1,3}(?:\.\d{3}){2,}|\d{1,3}(?:\.\d{3})+(?=,))(?:,(?P<decimals>\d+))?|"
    r"(?P<top>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:/(?P<bottom>\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?))?"
)
_NAMED = re.compile(r"(?:[A-WYZa-wyzΑ-Ωα-ω]|(?<!\d)[xX])-?$|[A-Za-z)\]}]_$|\^$")
"""What makes digits a part of a name, an index or an exponent: B12, COVID-19, x_1."""
_CURRENCY = re.compile(r"\b(?:Rs|USD|EUR|GBP|INR)$")
_UNKNOWN = re.compile(r" ?[√πƒ]|[\^±]|[eE][+-]?\d|[xyzn](?![A-Za-z0-9])| : \d")
"""What follows a number that is only a factor, or the beginning of something longer."""
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\[,;:! ]|[\u00a0\u2007\u2009\u202f'’_٬])(?=\d{3}(?!\d))")
_SPACED = re.compile(r"(?<![\w.,/^-])[1-9]\d{0,2}(?: \d{3})+(?![\w/^-]|[.,:]\d| \d)")
_MINUS = str.maketrans(
    dict.fromkeys("−–‐‑‒﹣－", "-") | {"％": "%", "．": ".", "，": ",", "⁄": "/", "٫": "."}
)
_SIGNS = re.compile("[¼-¾⅐-⅞↉]")
"""Fractions that are one character."""
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?[\d.]+)\s*\}\s*\{\s*([\d.]+)\s*\}|(\d)\s*(\d))")
_UNITS = (
    r"(?:hours?|hrs?|h|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|feet|foot|ft|inch(?:es)?|in|"
    r"yards?|miles?|pounds?|lbs?|ounces?|oz|dollars?|cents?|euros?|km|m|cm|mm|kg|g|mg)\b\.?"
)
_SPELLINGS = (
    (re.compile(r"\\([$%#])"), r"\1"),
    (re.compile(r"\\times\b\s*|\\cdot\b\s*"), "×"),
    (re.compile(r"\\div\b\s*"), "÷"),
    (re.compile(r"\\approx\b"), "≈"),
    (re.compile(r"\\pm\b\s*|±\s*"), "±"),
    (re.compile(r"\\pi\b"), "π"),
    (re.compile(r"\^\s*(?:\\circ\b|\{\s*\\circ\s*\})"), "°"),
    (re.compile(r"(?<=[\d)])\*\*(?=[\d(-])"), "^"),
    (re.compile(r"\^(?:\{\s*(-?\d+)\s*\}|\(\s*(-?\d+)\s*\))"), r"^\1\2"),
    (re.compile(r"_\{(\w+)\}"), r"_\1"),
)
_COMPUTED = (
    re.compile(r"\\sqrt\s*(?:\[[^\]]*\])?\s*(?:\{[^{}]*\}|\d+)|√\s*(?:\([^()]*\)|[\d.]*\d)"),
    re.compile(r"\\[dt]?binom\s*\{[^{}]*\}\s*\{[^{}]*\}|\\[dt]?frac\s*\{[^{}]*\}\s*\{[^{}]*\}"),
    re.compile(r"(?:\\|\b)(?:log|ln|sin|cos|tan|sqrt)\b(?:_\w+)?\s*[({]?\s*\d[\d.]*[)}]?"),
    re.compile(rf"\d[\d.,]* ?{_UNITS}(?:,? (?:and )?\d[\d.,]* ?{_UNITS})+|\d+'\s?\d+(?:\"|'')"),
    re.compile(r"±\d[\d.,]*"),
)
"""What is not computed: roots, functions, measures of two units."""
_WORDS = (
    (re.compile(r"\bnegative (?=[$€£]?\.?\d)", re.IGNORECASE), "-"),
    (re.compile(r"((?:^|\b(?:is|be|was)\b|[=:({])\s*)minus (?=[$€£]?\.?\d)", re.IGNORECASE), r"\1-"),
    (re.compile(r"(?<=\d) and (?:a|one)[ -]half\b"), " 1/2"),
    (re.compile(r"(?<=\d) and (?:a|one)[ -]quarter\b"), " 1/4"),
    (re.compile(r"(?<=\d) and three[ -]quarters\b"), " 3/4"),
    (re.compile(r"(?<=\d) and (?=[1-9]\d*/[1-9])"), " "),
)
_SUPERSCRIPT = re.compile(r"(?<=\d)[⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")


@dataclass(frozen=True)
class Token:
    """A number in a plain text; without a value if it is one whose value is not known, such as 3:30 or 2x."""

    start: int
    end: int
    value: Fraction | None


def parse_number(text: str) -> Fraction | None:
    """The number in a text that is just a number, with or without currency, per cent sign and full stop; else
    None."""
    plain = without_markup(plain_numbers(text)).strip().rstrip(".").rstrip("%$€£¢").strip()
    found = list(tokens(plain))
    return found[0].value if len(found) == 1 and found[0].end - found[0].start == len(plain) else None


def tokens(plain: str) -> Iterator[Token]:
    """The numbers of a text in one spelling (`plain_numbers`), in order; digits in names are none."""
    at = 0
    for match in _NUMBER.finditer(plain):
        yield from (Token(i, i + 1, None) for i in range(at, match.start()) if plain[i] == OPAQUE)
        at = match.end()
        before = plain[max(match.start() - 12, 0) : match.start()]
        marked = match["currency"] or match["sign"]
        if marked or not _NAMED.search(before) or _CURRENCY.search(before):
            known = not _UNKNOWN.match(plain, match.end())
            yield Token(match.start(), match.end(), _value(match) if known else None)
    yield from (Token(i, i + 1, None) for i in range(at, len(plain)) if plain[i] == OPAQUE)


def begins_with_number(text: str) -> bool:
    """Whether a text begins with a number, as after the `####` of GSM8K; headings do not."""
    return re.match(r"[\s*_:=$€£(\[\\~≈-]*(?:[a-z] ?= ?)?\.?\d", plain_numbers(text)) is not None


def plain_numbers(text: str) -> str:
    """The text with its numbers in one spelling: ASCII digits, signs and fractions, commas between
    thousands."""
    text = _SIGNS.sub(_spelt_out, "".join(map(_ascii, text))).translate(_MINUS)
    text = _THOUSANDS.sub(",", text)
    for pattern, plain in _SPELLINGS:
        text = pattern.sub(plain, text)
    text = _FRACTION.sub(lambda m: _after_whole(m, f"{m[1] or m[3]}/{m[2] or m[4]}"), text)
    text = _SUPERSCRIPT.sub(lambda m: f"^{unicodedata.normalize('NFKC', m[0]).replace('−', '-')}", text)
    for computed in _COMPUTED:
        text = computed.sub(OPAQUE, text)
    for pattern, plain in _WORDS:
        text = pattern.sub(plain, text)
    return _SPACED.sub(lambda m: m[0].replace(" ", ","), text)


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


def _value(match: re.Match[str]) -> Fraction | None:
    run = _RUN.fullmatch(match["run"])
    if run is None or len(match[0]) > MOST_DIGITS:
        return None
    if run["european"]:
        value = Fraction(f"{run['european'].replace('.', '')}.{run['decimals'] or 0}")
    else:
        value = Fraction(run["top"].replace(",", ""))
    if match["power"]:
        power = int(match["power"])
        if (value == 0 and power < 0) or len(run[0]) > 20:
            return None
        value = Fraction(value) ** power
    if tens := int(match["exponent"] or 0) + int(match["ten"] or 0) + _scale(match):
        value *= Fraction(10) ** tens
    for bottom in filter(None, (run["bottom"], match["bottom"])):
        divisor = Fraction(bottom.replace(",", ""))
        if not divisor:
            return None
        value /= divisor
    if match["whole"]:
        value += int(match["whole"])
    return -value if match["sign"] or match["inner"] else value


def _scale(match: re.Match[str]) -> int:
    """The power of ten of "million" or "k"; "m" and "B" are units unless there is a currency."""
    word = (match["scale"] or "").strip(" -")
    if word in ("m", "B") and not match["currency"]:
        return 0
    return _SCALES.get(word.lower().removesuffix("s") if len(word) > 2 else word.lower(), 0)
