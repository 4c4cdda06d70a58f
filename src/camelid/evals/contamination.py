"""Finds evaluation items in training data: whole questions, also with other names, and long common n-grams.

After appendix C of GPT-3 (Brown et al. 2020, arXiv:2005.14165): words in lower case without punctuation; a
question is dirty if one of its n-grams occurs in a training document, where n is the 5th percentile of the
questions' lengths, between 8 and 13. Their 10-document rule for common n-grams is left out, since it needs
counts over the whole corpus. In addition, a question of at least `SHORTEST` words is found if all of it
occurs, and with other names if at least that many of its words are not names. Questions generated from
templates share n-grams by design, so n-grams say little about them.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

from camelid.tasks.graders import WORD, words_of
from camelid.tasks.item import Item

SHORTEST = 4
"""Number of words below which a match of a whole question is no evidence."""
NAME = "0name0"
_CAPITALISED = re.compile(r"\b[A-Z][a-z]+\b")

Words = tuple[str, ...]
Kind = Literal["question", "n-gram"]


@dataclass(frozen=True)
class Contamination:
    """A question found in the training data: where, how it was found, and the words in common."""

    item: str
    where: str
    """The document that contains it."""
    line: int
    """The line of the document in which the words begin, counting from 0."""
    kind: Kind
    words: str


def contamination(
    items: Sequence[Item], documents: Iterable[tuple[str, str]], *, blind: Callable[[str], str] | None = None
) -> list[Contamination]:
    """The items found in the documents (text, where), each at most once per kind, in the order of the
    documents.

    blind: replaces the names in a text and keeps its lines; by default every capitalised word counts as the
    same name. Memory grows with the items and the longest document; the documents are read once.
    """
    blind = blind or (lambda text: _CAPITALISED.sub(NAME, text))
    size = ngram_size(items)
    plain, nameless = _Index(), _Index()
    for item in items:
        words = words_of(item.question)
        question = " ".join(words)
        plain.add(_Sought(item.id, "question", tuple(words), question))
        blinded = words_of(blind(item.question))
        # "Who was George Washington?" leaves only "was", which occurs between names in any text.
        if sum(word in words for word in blinded) >= SHORTEST:
            nameless.add(_Sought(item.id, "question", tuple(blinded), question))
        for start in range(len(words) - size + 1):
            run = words[start : start + size]
            plain.add(_Sought(item.id, "n-gram", tuple(run), " ".join(run)))
    found: dict[tuple[str, str], Contamination] = {}
    for document, where in documents:
        for index, text in ((plain, document), (nameless, blind(document))):
            for one in index.occurrences(text, where, found.keys()):
                found[one.item, one.kind] = one
    return list(found.values())


def ngram_size(items: Sequence[Item]) -> int:
    """The n of n-grams: the 5th percentile of the questions' lengths in words, from 8 to 13."""
    lengths = sorted(len(words_of(item.question)) for item in items)
    return min(13, max(8, lengths[len(lengths) // 20])) if lengths else 13


class _Sought(NamedTuple):
    """Words of an item to find, and those to report."""

    item: str
    kind: Kind
    words: Words
    reported: str


class _Index:
    """Runs of words, indexed by their first `SHORTEST` words: one lookup per word of a document."""

    def __init__(self) -> None:
        self._runs: defaultdict[Words, dict[_Sought, None]] = defaultdict(dict)

    def add(self, run: _Sought) -> None:
        """Adds a run of words; runs of fewer than `SHORTEST` words are ignored."""
        if len(run.words) >= SHORTEST:
            self._runs[run.words[:SHORTEST]][run] = None

    def occurrences(self, text: str, where: str, known: Set[tuple[str, str]]) -> Iterator[Contamination]:
        """The first occurrence in the text of each item and kind that is not known yet."""
        words = words_of(text)
        if self._runs.keys().isdisjoint(_beginnings(words)):
            return  # the usual case, decided without a Python loop over the words
        first: dict[tuple[str, str], tuple[_Sought, int]] = {}
        for start, beginning in enumerate(_beginnings(words)):
            for run in self._runs.get(beginning, ()):
                key = run.item, run.kind
                if key not in known and tuple(words[start : start + len(run.words)]) == run.words:
                    first.setdefault(key, (run, start))
        lines = _lines_of_words(text, [start for _, start in first.values()])
        for (run, _), line in zip(first.values(), list(lines), strict=True):
            yield Contamination(run.item, where, line, run.kind, run.reported)


def _beginnings(text: Sequence[str]) -> Iterator[Words]:
    """For each word of a text, the `SHORTEST` words that begin there."""
    return zip(*(islice(text, start, None) for start in range(SHORTEST)), strict=False)


def _lines_of_words(text: str, numbers: Sequence[int]) -> Iterator[int]:
    """The lines in which the words with these ascending indices begin, counting from 0."""
    folded = text.casefold()
    words = enumerate(WORD.finditer(folded))
    line = place = 0
    reached = -1
    for number in numbers:
        if number > reached:
            reached, word = next(islice(words, number - reached - 1, None))
            line, place = line + folded.count("\n", place, word.start()), word.start()
        yield line
