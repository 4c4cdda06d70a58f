"""Which instructions are new: the ROUGE-L filter of Self-Instruct (arXiv:2212.10560, section 2.2), with an
index.

An instruction is compared with few others. To reach F1 t, two texts of m and n words need a common
subsequence of at least t (m + n) / 2 words. So

- n lies between t m / (2 - t) and m (2 - t) / t, and the words themselves overlap at least as much;
- each text has t m / (2 - t) words in common with any partner, so that among the other m - t m / (2 - t) + 1,
  taken in one order for all texts, there is one that both have (prefix filtering: Chaudhuri et al., ICDE
  2006; Xiao et al., "PPJoin", WWW 2008).

The order is by first occurrence, the latest first: words that came late are rare, and the order never
changes. What is left is compared with bit-parallel arithmetic. Decisions are those of comparing with every
text by `rouge_score`.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import count

from camelid.text.rouge import common_subsequence, f_measure, places_of, words

SLACK = 1e-9
"""Keeps rounding from making a bound too strict."""


@dataclass(frozen=True)
class Similar:
    """A text of the index that another one resembles, and by how much."""

    text: str
    rouge_l: float


class NoveltyIndex:
    """Texts, and whether another one is too similar to any of them: ROUGE-L of at least `threshold`."""

    def __init__(self, texts: Iterable[str] = (), threshold: float = 0.7) -> None:
        self.threshold = threshold
        self.texts: list[str] = []
        self._words: list[list[str]] = []
        self._elements: list[frozenset[int]] = []
        self._ids: dict[Hashable, int] = {}
        self._with: defaultdict[int, list[int]] = defaultdict(list)
        """For each element the texts that have it among their first ones."""
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, text: str) -> None:
        """Adds a text."""
        found = words(text)
        elements = [self._ids.setdefault(each, len(self._ids)) for each in numbered(found)]
        for element in self._first(elements):
            self._with[element].append(len(self.texts))
        self.texts.append(text)
        self._words.append(found)
        self._elements.append(frozenset(elements))

    def similar(self, text: str) -> Similar | None:
        """A text of the index with ROUGE-L of at least the threshold, the earliest one; None if there is
        none."""
        found = words(text)
        new = count(len(self._ids))
        elements = [self._ids[each] if each in self._ids else next(new) for each in numbered(found)]
        candidates = set[int]().union(*(self._with.get(element, ()) for element in self._first(elements)))
        whole, length, places = frozenset(elements), len(found), places_of(found)
        half = self.threshold / 2
        for index in sorted(candidates):
            other = self._elements[index]
            least = half * (length + len(other)) - SLACK
            if min(length, len(other)) < least or len(whole & other) < least:
                continue
            common = common_subsequence(places, length, self._words[index])
            value = f_measure(common, length, len(other))
            if value >= self.threshold:
                return Similar(self.texts[index], value)
        return None

    def _first(self, elements: list[int]) -> list[int]:
        """The elements of which a text must share one with every similar text, the latest known first."""
        least = math.ceil(self.threshold * len(elements) / (2 - self.threshold) - SLACK)
        return sorted(elements, reverse=True)[: len(elements) - max(1, least) + 1]


def numbered(found: list[str]) -> list[Hashable]:
    """The words, each later occurrence of one with its number, so that sets of them count repetitions."""
    times: dict[str, int] = {}
    elements: list[Hashable] = []
    for word in found:
        times[word] = times.get(word, 0) + 1
        elements.append(word if times[word] == 1 else (word, times[word]))
    return elements
