"""Evaluation items found in the training data: whole questions but for names, and long common runs of words.

After appendix C of GPT-3 (Brown et al. 2020, arXiv:2005.14165): words in lower case without punctuation, a
question is dirty where one of its n-grams occurs in a training document, n being the 5th percentile of the
questions' lengths, at least 8 and at most 13. Their 10-document rule for common n-grams is left out: it needs
counts over the whole corpus. Beyond it, a question of any length of at least `SHORTEST` words is found where all
of it occurs, names aside. Generated questions share their wording by design, so n-grams say little about them.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from camelid.tasks.graders import normalised
from camelid.tasks.item import Item

SHORTEST = 4
"""Words below which a question is too short to be evidence of anything."""
NAME = "0name0"
_CAPITALISED = re.compile(r"\b[A-Z][a-z]+\b")

Words = tuple[str, ...]


@dataclass(frozen=True)
class Contamination:
    """A question that stands in the training data: where, how it was found, and the words in common."""

    item: str
    document: int
    kind: Literal["question", "n-gram"]
    words: str


def contamination(
    items: Sequence[Item], documents: Iterable[str], *, blind: Callable[[str], str] | None = None
) -> list[Contamination]:
    """The items found in the documents, each at most once a kind, in the order of the documents.

    blind: makes a text name-blind; by default every capitalised word counts as the same name. Memory grows with the
    items only; the documents are read once.
    """
    blind = blind or (lambda text: _CAPITALISED.sub(NAME, text))
    whole = _Index()
    for item in items:
        words = _words(blind(item.question))
        if len(words) >= SHORTEST:
            whole.add(item.id, words)
    size = ngram_size(items)
    runs = _Index()
    for item in items:
        words = _words(item.question)
        for start in range(len(words) - size + 1):
            runs.add(item.id, words[start : start + size])
    found: dict[tuple[str, str], Contamination] = {}
    for number, document in enumerate(documents):
        for item_id, words in whole.occurrences(_words(blind(document))):
            found.setdefault(
                (item_id, "question"), Contamination(item_id, number, "question", " ".join(words))
            )
        for item_id, words in runs.occurrences(_words(document)):
            found.setdefault((item_id, "n-gram"), Contamination(item_id, number, "n-gram", " ".join(words)))
    return list(found.values())


def ngram_size(items: Sequence[Item]) -> int:
    """The n of n-grams: the 5th percentile of the questions' lengths in words, from 8 to 13."""
    lengths = sorted(len(_words(item.question)) for item in items)
    return min(13, max(8, lengths[len(lengths) // 20])) if lengths else 13


class _Index:
    """Runs of words, found by their first few: one look-up for each word of a document."""

    def __init__(self) -> None:
        self._runs: defaultdict[Words, set[tuple[str, Words]]] = defaultdict(set)

    def add(self, item: str, words: Words) -> None:
        self._runs[words[:SHORTEST]].add((item, words))

    def occurrences(self, text: Words) -> Iterator[tuple[str, Words]]:
        """Every item whose run occurs in the text, with the run."""
        if not self._runs:
            return
        for start in range(len(text) - SHORTEST + 1):
            for item, words in self._runs.get(text[start : start + SHORTEST], ()):
                if text[start : start + len(words)] == words:
                    yield item, words


def _words(text: str) -> Words:
    return tuple(normalised(text).split())
