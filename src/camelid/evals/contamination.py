"""Evaluation items found in the training data: whole questions but for names, and long common runs of words.

After appendix C of GPT-3 (Brown et al. 2020, arXiv:2005.14165): words in lower case without punctuation, a
question is dirty where one of its n-grams occurs in a training document, n being the 5th percentile of the
questions' lengths, at least 8 and at most 13. Their 10-document rule for common n-grams is left out: it needs
counts over the whole corpus. Beyond it, a question of at least `SHORTEST` words is found where all of it occurs, and
names aside where as many words of it are no names. Generated questions share their wording by design, so n-grams say
little about them.
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
"""Words below which a question is too short to be evidence of anything."""
NAME = "0name0"
_CAPITALISED = re.compile(r"\b[A-Z][a-z]+\b")

Words = tuple[str, ...]
Kind = Literal["question", "n-gram"]


@dataclass(frozen=True)
class Contamination:
    """A question that stands in the training data: where, how it was found, and its words that do."""

    item: str
    where: str
    """The document that holds it."""
    line: int
    """The line of the document in which the words begin, counted from 0."""
    kind: Kind
    words: str


def contamination(
    items: Sequence[Item], documents: Iterable[tuple[str, str]], *, blind: Callable[[str], str] | None = None
) -> list[Contamination]:
    """The items found in the documents (text, where), each at most once a kind, in the order of the documents.

    blind: makes a text name-blind and keeps its lines; by default every capitalised word counts as the same name.
    Memory grows with the items and the longest document; the documents are read once.
    """
    blind = blind or (lambda text: _CAPITALISED.sub(NAME, text))
    size = ngram_size(items)
    plain, nameless = _Index(), _Index()
    for item in items:
        words = words_of(item.question)
        question = " ".join(words)
        plain.add(_Sought(item.id, "question", tuple(words), question))
        blinded = words_of(blind(item.question))
        # Of "Who was George Washington?" nothing but "was" is left; any text has that between names.
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
    """Words of an item to find, and those to tell."""

    item: str
    kind: Kind
    words: Words
    told: str


class _Index:
    """Runs of words, found by their first few: one look-up for each word of a document."""

    def __init__(self) -> None:
        self._runs: defaultdict[Words, dict[_Sought, None]] = defaultdict(dict)

    def add(self, run: _Sought) -> None:
        """Adds a run of at least `SHORTEST` words; shorter ones are no evidence."""
        if len(run.words) >= SHORTEST:
            self._runs[run.words[:SHORTEST]][run] = None

    def occurrences(self, text: str, where: str, known: Set[tuple[str, str]]) -> Iterator[Contamination]:
        """The first occurrence in the text of every item and kind that is not known yet."""
        words = words_of(text)
        if self._runs.keys().isdisjoint(_beginnings(words)):
            return  # nearly always, and seen without a line of Python for each word
        first: dict[tuple[str, str], tuple[_Sought, int]] = {}
        for start, beginning in enumerate(_beginnings(words)):
            for run in self._runs.get(beginning, ()):
                key = run.item, run.kind
                if key not in known and tuple(words[start : start + len(run.words)]) == run.words:
                    first.setdefault(key, (run, start))
        lines = _lines_of_words(text, [start for _, start in first.values()])
        for (run, _), line in zip(first.values(), list(lines), strict=True):
            yield Contamination(run.item, where, line, run.kind, run.told)


def _beginnings(text: Sequence[str]) -> Iterator[Words]:
    """At each word of a text the `SHORTEST` words from there on."""
    return zip(*(islice(text, start, None) for start in range(SHORTEST)), strict=False)


def _lines_of_words(text: str, numbers: Sequence[int]) -> Iterator[int]:
    """The lines of a text in which the words of these ascending numbers begin, all counted from 0."""
    folded = text.casefold()
    words = enumerate(WORD.finditer(folded))
    line = place = 0
    reached = -1
    for number in numbers:
        if number > reached:
            reached, word = next(islice(words, number - reached - 1, None))
            line, place = line + folded.count("\n", place, word.start()), word.start()
        yield line
