"""How large the results of a template's operations are, computed before they are.

Each function takes an operation's operands and gives an upper bound of the characters or elements that its
result holds. Operations that are not listed give results no larger than a few times their operands.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any

Bound = Callable[..., int]
DIGITS, NESTED = re.compile(r"\d+"), re.compile(r"\{[^{}]*\{")

SHORT = 64
"""Digits of numbers that cost nothing."""


def size(value: Any, most: int) -> int:
    """Characters in `str(value)`, roughly; nested values count each time they occur. Stops above `most`."""
    total, waiting = 0, [value]
    while waiting and total <= most:
        value = waiting.pop()
        if isinstance(value, str | bytes):
            total += len(value)
        elif isinstance(value, int):
            total += 1 + value.bit_length() // 3
        elif isinstance(value, Mapping):
            total += 4 * len(value)
            if total <= most:
                waiting += value.keys()
                waiting += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            total += 2 * len(value)
            if total <= most:
                waiting += value
        elif isinstance(value, range):
            total += 24 * len(value)
        else:
            total += 24
    return total


def length(value: Any) -> int:
    """Elements or characters of a value; 1 if it has none."""
    return len(value) if isinstance(value, Sized) else 1


def binary(operator: str, left: Any, right: Any, most: int) -> int:
    """The result of `left operator right`; of whole numbers the square of the digits, like a product's
    work."""
    if isinstance(left, int) and isinstance(right, int):
        bits = (left.bit_length(), right.bit_length())
        digits = {"*": sum(bits), "**": bits[0] * max(right, 0), "%": 1}.get(operator, 1 + max(bits)) // 3
        return digits**2 if digits > SHORT else 1
    if operator == "*":
        for value, times in ((left, right), (right, left)):
            if isinstance(value, Sized) and isinstance(times, int):
                return len(value) * max(times, 0)
    if operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
        return len(left) + len(right)
    if operator == "%" and isinstance(left, str | bytes):
        return _formatted(left, right, most=most)
    return 1


def _padded(text: Any, width: Any = 80, *rest: Any, most: int, **named: Any) -> int:
    return max(length(text), _whole(named.get("width", width)))


def _replaced(text: Any, old: Any = "", new: Any = "", *rest: Any, most: int, **named: Any) -> int:
    whole, before, after = (str(one) for one in (text, named.get("old", old), named.get("new", new)))
    return len(whole) + whole.count(before) * max(0, len(after) - len(before))


def _joined(separator: Any, values: Any = (), *rest: Any, most: int, **named: Any) -> int:
    return size(values, most) + length(separator) * length(values)


def _join_filter(values: Any, d: Any = "", *rest: Any, most: int, **named: Any) -> int:
    return _joined(d, values, most=most)


def _formatted(text: Any, *values: Any, most: int, **named: Any) -> int:
    """Any format string: its fields, each as wide as the widest number and the longest value."""
    form = text.decode("latin-1") if isinstance(text, bytes) else str(text)
    widths = [int(digits[:9]) if len(digits) < 10 else most + 1 for digits in DIGITS.findall(form)]
    given = [*values, *named.values()]
    variable = max(_numbers(given, most), default=0) if "*" in form or NESTED.search(form) else 0
    fields = form.count("%") + form.count("{")
    return len(form) + sum(widths) + fields * (size(given, most) + variable)


def _numbers(values: Any, most: int) -> Iterator[int]:
    """The whole numbers anywhere in a value, unless it is larger than `most`."""
    waiting = [values] if size(values, most) <= most else []
    while waiting:
        value = waiting.pop()
        if isinstance(value, int):
            yield abs(value)
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


def _indented(text: Any, width: Any = 4, *rest: Any, most: int, **named: Any) -> int:
    whole, width = str(text), named.get("width", width)
    wide = len(width) if isinstance(width, str) else _whole(width)
    return len(whole) + (1 + whole.count("\n")) * wide


def _wrapped(
    text: Any,
    width: Any = 79,
    breaks: Any = True,
    wrapstring: Any = None,
    *rest: Any,
    most: int,
    **named: Any,
) -> int:
    end = named.get("wrapstring", wrapstring)
    return length(str(text)) * (1 + (length(end) if end else 1))


def _expanded(text: Any, tabsize: Any = 8, *rest: Any, most: int, **named: Any) -> int:
    return length(text) + int(text.count("\t")) * _whole(named.get("tabsize", tabsize))


def _batched(values: Any, count: Any, *rest: Any, most: int, **named: Any) -> int:
    return length(values) + _whole(count)


def _whole(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 1


def _to_json(
    value: Any, ensure_ascii: Any = None, indent: Any = None, *rest: Any, most: int, **named: Any
) -> int:
    plain = size(value, most)
    wide = len(indent) if isinstance(indent, str) else _whole(indent) if indent is not None else 0
    return min(plain, most + 1) * (1 + (plain if wide > 16 else 1) * wide)


def _spelled(*values: Any, most: int, **named: Any) -> int:
    return size([*values, *named.values()], most)


def _linked(text: Any, *rest: Any, most: int, **named: Any) -> int:
    return length(str(text)) * (64 + size([*rest, *named.values()], most))


def _as_bytes(value: Any, count: Any = 1, *rest: Any, most: int, **named: Any) -> int:
    return _whole(named.get("length", count))


def _translated(text: Any, table: Any, *rest: Any, most: int, **named: Any) -> int:
    return length(text) * (1 + size(table, most))


METHODS: dict[str, Bound] = {
    **dict.fromkeys(("ljust", "rjust", "center", "zfill"), _padded),
    "replace": _replaced,
    "join": _joined,
    "format": _formatted,
    "format_map": _formatted,
    "expandtabs": _expanded,
    "translate": _translated,
    "to_bytes": _as_bytes,
}
"""Methods of strings, bytes and numbers; the object comes first."""
FILTERS: dict[str, Bound] = {
    "center": _padded,
    "replace": _replaced,
    "join": _join_filter,
    "format": _formatted,
    "indent": _indented,
    "wordwrap": _wrapped,
    "batch": _batched,
    "slice": _batched,
    "tojson": _to_json,
    "urlize": _linked,
    **dict.fromkeys(
        ("string", "pprint", "sum", "lower", "upper", "capitalize", "title", "trim", "escape", "e",
         "forceescape", "striptags", "urlencode", "xmlattr", "wordcount", "truncate", "filesizeformat"),
        _spelled,
    ),
}  # fmt: skip
"""Jinja's filters and `tojson`; the filtered value comes first."""
