"""Arithmetic expressions, computed exactly by a small parser: nothing that a model writes reaches `eval`.

    value_of("2 * (3 + 4) / 5")  # Fraction(14, 5)

Expressions consist of numbers (thousands may have commas), + - * / x × ÷, powers as ** or ^, and round
brackets; a $ before a number is ignored. A product binds as in Python: -2**2 = -4, 2**-1 = 1/2.
"""

import re
from fractions import Fraction

MOST_CHARACTERS = 1000
MOST_DEPTH = 50
"""Brackets, signs and powers inside one another."""
MOST_BITS = 4096
"""Size of numerator or denominator; what needs more has no value here."""

_TOKEN = re.compile(
    r"\s*(?:\$?\s?(\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+\.?\d*|\.\d+)|(\*\*|[-+*/^()]))", re.ASCII
)
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "·": "*"})
_TIMES = re.compile(r"(?<=[\d)])(?:\s+[xX]\s+|[xX])(?=[\d(.$])")
"""A multiplication; in "2x + 3" the x is an unknown."""


def value_of(expression: str) -> Fraction | None:
    """The exact value of an expression; None if the text is something else, divides by zero or grows too
    large."""
    if len(expression) > MOST_CHARACTERS:
        return None
    try:
        return _Parser(_tokens(_TIMES.sub("*", expression.translate(_SIGNS)))).whole()
    except (_UnreadableError, ZeroDivisionError):
        return None


def decimal(value: Fraction) -> str:
    """A value as people write it: up to 10 significant digits, without an exponent or trailing zeros."""
    if value.denominator == 1:
        return str(value.numerator)
    digits = max(0, 10 - len(str(abs(value.numerator) // value.denominator).lstrip("0")))
    scaled = round(value * 10**digits)
    whole, rest = divmod(abs(scaled), 10**digits)
    text = f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".") if digits else str(whole)
    return f"-{text}" if scaled < 0 else text


class _UnreadableError(Exception):
    """A text that is not an expression, or whose value exceeds the limits."""


def _tokens(text: str) -> list[str | Fraction]:
    tokens: list[str | Fraction] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _UnreadableError
        tokens.append(found[2] or Fraction(found[1].replace(",", "").rstrip(".")))
        at = found.end()
    return tokens


class _Parser:
    """Recursive descent: sums of products of signed powers."""

    def __init__(self, tokens: list[str | Fraction]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def whole(self) -> Fraction:
        value = self._sum()
        if self.at < len(self.tokens):
            raise _UnreadableError
        return value

    def _next(self, *wanted: str) -> str | None:
        """The next token if it is one of these."""
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        if not isinstance(token, str) or token not in wanted:
            return None
        self.at += 1
        return token

    def _sum(self) -> Fraction:
        value = self._product()
        while sign := self._next("+", "-"):
            other = self._product()
            value = _bounded(value + other if sign == "+" else value - other)
        return value

    def _product(self) -> Fraction:
        value = self._signed()
        while sign := self._next("*", "/"):
            other = self._signed()
            value = _bounded(value * other if sign == "*" else value / other)
        return value

    def _signed(self) -> Fraction:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise _UnreadableError
        sign = self._next("+", "-")
        value = self._signed() if sign else self._power()
        self.depth -= 1
        return -value if sign == "-" else value

    def _power(self) -> Fraction:
        base = self._atom()
        if not self._next("**", "^"):
            return base
        exponent = self._signed()
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if exponent.denominator != 1 or abs(exponent) * size > MOST_BITS:
            raise _UnreadableError
        return Fraction(base) ** int(exponent)

    def _atom(self) -> Fraction:
        if self._next("("):
            value = self._sum()
            if not self._next(")"):
                raise _UnreadableError
            return value
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        if not isinstance(token, Fraction):
            raise _UnreadableError
        self.at += 1
        return token


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS:
        raise _UnreadableError
    return value
