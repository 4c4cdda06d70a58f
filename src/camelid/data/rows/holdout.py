"""Train/validation split of a corpus by hash of the text, in one pass."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from camelid.base.errors import CamelidError, WrongCall

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)
Piece = tuple[str, Split, str]
"""A text, its split and its location."""
SECTION_CHARACTERS = 1 << 14
_BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"\s"))


def hold_out_documents(documents: Iterable[tuple[str, str]], fraction: float) -> Iterator[Piece]:
    """Documents (text, location) with their split; `fraction` of the text is held out.

    The hash of a document's text decides, so the split does not depend on order or chance, and equal
    documents stay together. Documents longer than two sections of 16,384 characters are split section by
    section, at blank lines where possible, so that a few long books also give a validation set; the sections
    between two held-out ones stay one document. If no hash is below `fraction`, the section with the lowest
    hash is held out. Raises `CamelidError` if no text would be left for training or for validation.
    """
    if not 0 <= fraction < 1:
        raise WrongCall(f"validation_fraction is {fraction}; it must be at least 0 and below 1")
    if fraction == 0:
        yield from ((text, "train", where) for text, where in documents)
        return
    found = trained = False
    lowest, kept_back = 1.0, list[tuple[str, str]]()  # equal sections with the lowest hash so far
    where = "the corpus"
    for text, where in documents:
        run = ""
        for section in sections(text):
            hashed = uniform(section)
            if hashed >= fraction and (found or hashed > lowest):
                run += section
                continue
            if run:
                yield run, "train", where
                run, trained = "", True
            if hashed < fraction:
                yield section, "validation", where
                found = True
                continue
            if hashed < lowest:
                yield from _as("train", kept_back)
                trained = trained or bool(kept_back)
                lowest, kept_back = hashed, []
            kept_back.append((section, where))
        if run:
            yield run, "train", where
            trained = True
    if not trained and not (found and kept_back):
        raise CamelidError(
            f"{where}: too little text to hold out a validation set; give more, or set "
            "validation_fraction to 0"
        )
    yield from _as("train" if found else "validation", kept_back)


def _as(split: Split, sections: list[tuple[str, str]]) -> Iterator[Piece]:
    return ((text, split, where) for text, where in sections)


def sections(text: str) -> Iterator[str]:
    """The text in sections of about `SECTION_CHARACTERS`; joined, they give the text."""
    start = 0
    while len(text) - start > 2 * SECTION_CHARACTERS:
        end = _border(text, start + SECTION_CHARACTERS)
        yield text[start:end]
        start = end
    yield text[start:]


def _border(text: str, earliest: int) -> int:
    """The end of the first blank line after `earliest`, else of a line, else of a word, within a section."""
    for border in _BORDERS:
        if match := border.search(text, earliest, earliest + SECTION_CHARACTERS):
            return match.end()
    return earliest


def uniform(text: str) -> float:
    """A number in [0, 1) that depends only on the text."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
