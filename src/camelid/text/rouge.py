"""ROUGE-L of two texts (Lin 2004, W04-1013), and its words, as Google's `rouge_score` computes them without
stemming."""

import re
from collections.abc import Hashable, Mapping, Sequence


def words(text: str) -> list[str]:
    """Runs of letters a to z and digits, in lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())


def rouge_l(one: str, two: str) -> float:
    """The F1 of the longest common subsequence of words, 0 where a text has none."""
    first, second = words(one), words(two)
    return f_measure(common_subsequence(places_of(first), len(first), second), len(first), len(second))


def f_measure(common: int, found: int, wanted: int) -> float:
    """The harmonic mean of `common / found` and `common / wanted`, in the floating-point operations of
    `rouge_score`, so that a comparison with a threshold decides alike."""
    if not common:
        return 0.0
    precision, recall = common / found, common / wanted
    return 2 * precision * recall / (precision + recall)


def places_of(sequence: Sequence[Hashable]) -> dict[Hashable, int]:
    """For each element the places where it stands, as bits."""
    places: dict[Hashable, int] = {}
    for index, element in enumerate(sequence):
        places[element] = places.get(element, 0) | 1 << index
    return places


def common_subsequence(places: Mapping[Hashable, int], length: int, other: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence, gaps allowed, of a sequence given by its `places_of` and
    its length, and another one.

    A column of the usual table is one whole number, whose zeros mark where it grows: a few operations for
    each element of `other` (Hyyro 2004, "Bit-parallel LCS-length computation revisited").
    """
    row = full = (1 << length) - 1
    for element in other:
        if matches := row & places.get(element, 0):
            row = ((row + matches) | (row - matches)) & full
    return length - row.bit_count()
