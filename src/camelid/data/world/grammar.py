"""Seeded dice and the template language in which the world is written.

A template is text with two marks: `[a|b|c]` chooses one of its branches (a branch may be empty or hold
further marks), `{slot}` inserts a value, which may be a template itself.
"""

import random
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import blake2b
from itertools import accumulate
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Random choices that depend only on the seed parts, not on the Python version or PYTHONHASHSEED."""

    def __init__(self, *seed: object):
        digest = blake2b("/".join(map(str, seed)).encode(), digest_size=8).digest()
        # Python guarantees a stable sequence only for `random()`; all else is built on it.
        self.random = random.Random(int.from_bytes(digest, "big")).random

    def below(self, stop: int) -> int:
        """An integer in [0, stop)."""
        return int(self.random() * stop)

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high], both ends included."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self.random() * len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different positions of `options`, in random order."""
        pool = list(options)
        return [pool.pop(int(self.random() * len(pool))) for _ in range(count)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """All options in random order."""
        return self.sample(options, len(options))

    def weighted(self, weights: Mapping[T, float]) -> T:
        """One key, in proportion to its weight."""
        options = tuple(weights)
        ends = tuple(accumulate(weights.values()))
        return options[bisect_right(ends, self.random() * ends[-1], hi=len(ends) - 1)]


# What begins a line, follows a full stop or opens a quotation has a capital letter.
_SENTENCE = re.compile(r'(?:^"?|[.!?] "?| ")[a-z]', re.MULTILINE)

Node = str | tuple[str] | list[list["Node"]]  # text | slot | branches, each a sequence of nodes
_MARK = re.compile(r"\[|\]|\||\{\w+\}")


@cache
def _parse(template: str) -> list[Node]:
    stack: list[list[list[Node]]] = [[[]]]
    end = 0
    for mark in _MARK.finditer(template):
        stack[-1][-1].append(template[end : mark.start()])
        end, symbol = mark.end(), mark.group()
        if symbol == "[":
            stack.append([[]])
        elif symbol == "|":
            stack[-1].append([])
        elif symbol == "]":
            branches: Node = stack.pop()
            stack[-1][-1].append(branches)
        else:
            stack[-1][-1].append((symbol[1:-1],))
    stack[-1][-1].append(template[end:])
    assert len(stack) == 1, f"unbalanced brackets in {template!r}"
    assert len(stack[0]) == 1, f"a bar outside brackets in {template!r}"
    return stack[0][0]


def _write(nodes: list[Node], dice: Dice, slots: Mapping[str, str], out: list[str]) -> None:
    for node in nodes:
        if isinstance(node, str):
            out.append(node)
        elif isinstance(node, tuple):
            value = slots[node[0]]
            if "{" in value or "[" in value:
                _write(_parse(value), dice, slots, out)
            else:
                out.append(value)
        else:
            _write(dice.pick(node), dice, slots, out)


def render(template: str, dice: Dice, slots: Mapping[str, str] | None = None) -> str:
    """The template with its branches chosen and its slots filled; an unknown slot raises `KeyError`."""
    out: list[str] = []
    _write(_parse(template), dice, slots or {}, out)
    return "".join(out)


def capitalised(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def polished(text: str) -> str:
    """The text with capitalised sentences and single spaces."""
    text = re.sub(r" +", " ", text).strip()
    return _SENTENCE.sub(lambda start: start.group()[:-1] + start.group()[-1].upper(), text)


def listed(parts: Sequence[str], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def rows(header: str, *lines: str) -> tuple[dict[str, str], ...]:
    """A table written as lines of cells between slashes, under a header of slot names."""
    names = [name.strip() for name in header.split("/")]
    return tuple(_row(names, line) for line in lines)


def _row(names: list[str], line: str) -> dict[str, str]:
    cells = [cell.strip() for cell in line.split("/")]
    assert len(cells) == len(names), f"{len(names)} cells wanted in {line!r}"
    return dict(zip(names, cells, strict=True))


def words_of(*lines: str) -> tuple[str, ...]:
    """The words of the lines, split at white space."""
    return tuple(word for line in lines for word in line.split())
